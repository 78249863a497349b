// Types that the modules of this folder share; coordinates are pixels, times are seconds.

/**
 * The skeletons of one picture. Absent joints are NaN.
 * @typedef {object} PoseFrame
 * @property {number} time from the start
 * @property {number} width of the picture
 * @property {number} height of the picture
 * @property {Pose[]} poses
 */

/**
 * One skeleton: `joints` holds x and y of each of V joints, `confidence` a number from 0 to 1.
 * @typedef {object} Pose
 * @property {Float64Array} joints 2 V
 * @property {Float64Array} confidence V, 0 where absent
 */

/**
 * The skeleton of a person with a number that stays the same from picture to picture.
 * @typedef {Pose & {person: number}} TrackedPose
 */

/**
 * @typedef {object} Candidate
 * @property {number} label
 * @property {string} name
 * @property {number} probability calibrated
 */

/**
 * Candidate actions, the most probable first; `accepted` is null for "unknown".
 * @typedef {object} Prediction
 * @property {Candidate[]} candidates
 * @property {Float32Array} logits
 * @property {Candidate | null} accepted
 */

/**
 * An action of a person; `label` is null for "unknown".
 * @typedef {object} Segment
 * @property {number} person from 1
 * @property {number} start
 * @property {number} end
 * @property {number | null} label
 * @property {string} name
 * @property {number} probability mean over the segment
 * @property {number} repetitions of a movement within it
 */

/**
 * The state of a step network before its first step: one tensor, without the axis of streams.
 * @typedef {object} StateSpec
 * @property {number[]} shape
 * @property {"float32" | "int64" | "bool"} dtype
 * @property {number | "Infinity" | "-Infinity"} fill
 */

/**
 * A step of the preprocessing, with what its options and the layout of the model give.
 * @typedef {{name: "forget_confidence", threshold: number}
 *   | {name: "body_normalize", lead: number, trunk: number[][], limbs: [number, number, number][]}
 *   | {name: "hold_missing"}
 *   | {name: "stream", parts: ("joint" | "bone")[], parents: number[]}} PreprocessingStep
 */

/**
 * What `kinegraph web` writes about a model: recognition.json.
 * @typedef {object} RecognitionSettings
 * @property {string[]} classes
 * @property {{temperature: number, threshold: number, background: number | null}} calibration
 * @property {{layout: string, joints: string[], bones: [number, number][], sides: string[], people: number}} skeleton of the poses
 * @property {PoseSettings} poses
 * @property {number[][]} mapping for each joint of the model, the joints of a pose whose mean it is
 * @property {TrackerSettings} tracker
 * @property {{fps: number, max_gap: number}} resampler
 * @property {{min_duration: number, hysteresis: number, main_share: number, main_named_share: number}} segmenter
 * @property {PipelineSettings} pipeline
 * @property {{still: number, settling: number, min_presence: number}} motion below `still` a body is still;
 *   the first frames of a person do not count
 * @property {CounterSettings} counter
 * @property {PreprocessingStep[]} steps
 * @property {NetworkSettings} network
 */

/**
 * @typedef {object} PoseSettings
 * @property {number} input_pixels longer side of the estimator's input
 * @property {number} input_step sides of the input are multiples of it
 * @property {number} min_person_score
 * @property {number} min_joint_score
 */

/**
 * @typedef {object} TrackerSettings
 * @property {number} persons
 * @property {number} gap
 * @property {number} match_distance
 * @property {number} distance_growth
 * @property {number} min_lead
 * @property {number} velocity_memory
 * @property {number} size_decay
 * @property {number} max_extrapolation
 * @property {number} max_gap
 */

/**
 * Constants of kinegraph/inference/counting.py.
 * @typedef {object} CounterSettings
 * @property {number} min_size
 * @property {number} turn_share
 * @property {number} leave_share
 * @property {number} close_share
 * @property {number} max_travel
 * @property {number} full_share
 * @property {number} min_likeness
 * @property {number} smoothing
 * @property {number} max_absence
 * @property {number} max_way
 * @property {number} min_way
 * @property {number} max_way_cycles
 * @property {number} max_kinds
 * @property {number} size_memory
 */

/**
 * @typedef {object} PipelineSettings
 * @property {number} window
 * @property {number} interval frames between predictions
 * @property {number} max_frame
 * @property {number} min_visible
 */

/**
 * @typedef {object} NetworkSettings
 * @property {number} hop frames of a step
 * @property {number} delay frames that must follow a frame
 * @property {number} channels of a joint
 * @property {number} joints
 * @property {number} persons
 * @property {boolean} confidence whether the last channel is the confidence
 * @property {StateSpec[]} state beside who was seen
 */

export {};
