// The part of the page that teaches: it records takes of new actions from the results of a session,
// and lets the server make a model of them.

import { byId, createElement, displayName } from "./display.js";
import { saveFile } from "./download.js";
import { Takes } from "./takes.js";

/** @import { PersonResult } from "./results.js" */

const MIN_ACTIONS = 2;
const FILE_NAME = "taught-model.safetensors";

export class TeachPanel {
  /**
   * @param {string | null} token
   * @param {(id: string, actions: string[]) => void} onTaught
   */
  constructor(token, onTaught) {
    this.takes = new Takes();
    this.onTaught = onTaught;
    this.id = "";
    /** @type {Record<string, string>} */
    this.headers = token ? { authorization: `Bearer ${token}` } : {};
    this.name = /** @type {HTMLInputElement} */ (byId("teach-name"));
    this.button = /** @type {HTMLButtonElement} */ (byId("teach-take"));
    /** @type {() => string} returns the layout of the joints, "" without a session */
    this.layout = () => "";
    this.button.addEventListener("click", () => this.toggle());
    byId("teach-now").addEventListener("click", () => this.teach());
    byId("teach-save").addEventListener("click", () => this.save());
  }

  /**
   * @param {number} time
   * @param {PersonResult[]} persons
   */
  add(time, persons) {
    this.takes.add(time, persons);
  }

  toggle() {
    const action = this.name.value.trim(), layout = this.layout();
    if (this.takes.isRecording) {
      this.button.textContent = "Record a take";
      this.say(this.takes.stop(action, layout) || `Take of “${displayName(action)}” recorded.`);
    } else if (!action) {
      this.say("Name the action first.");
      this.name.focus();
    } else if (!layout) {
      this.say("Start the camera or a video first.");
    } else {
      this.takes.start();
      this.button.textContent = "End the take";
      this.say("Recording …");
    }
    this.name.disabled = this.takes.isRecording;
    this.list();
  }

  list() {
    const { byAction } = this.takes;
    byId("teach-list").replaceChildren(
      ...[...byAction].map(([name, takes]) => {
        const row = createElement("li", "", `${displayName(name)}: ${takes.length} ${takes.length === 1 ? "take" : "takes"} `);
        const remove = createElement("button", "", "Delete");
        remove.setAttribute("aria-label", `Delete the takes of ${displayName(name)}`);
        remove.addEventListener("click", () => {
          byAction.delete(name);
          this.list();
        });
        row.append(remove);
        return row;
      }),
    );
    /** @type {HTMLButtonElement} */ (byId("teach-now")).disabled = byAction.size < MIN_ACTIONS;
  }

  async teach() {
    this.say("Teaching …");
    try {
      const headers = { ...this.headers, "content-type": "application/json" };
      const response = await fetch("v1/teach", { method: "POST", headers, body: this.takes.toJson() });
      const answer = await response.json();
      if (!response.ok) throw new Error(answer.error);
      this.id = answer.id;
      this.say(describe(answer.held_out));
      byId("teach-save").hidden = false;
      this.onTaught(answer.id, Object.keys(answer.actions));
    } catch (error) {
      this.say(`The model is not taught: ${/** @type {Error} */ (error).message}`);
    }
  }

  async save() {
    const response = await fetch(`v1/taught/${this.id}`, { headers: this.headers });
    if (response.ok) saveFile(FILE_NAME, await response.blob());
    else this.say((await response.json()).error);
  }

  /** @param {string} text */
  say(text) {
    byId("teach-state").textContent = text;
  }
}

/** @param {{examples: number, correct: number, wrong: number}} heldOut */
function describe({ examples, correct, wrong }) {
  const ready = "The model is taught. It is used from the next video on.";
  if (!examples) return `${ready} Record more takes of each action for an estimate of its accuracy.`;
  const percent = (/** @type {number} */ share) => `${Math.round(100 * share)} %`;
  return `${ready} Estimate from ${examples} takes: ${percent(correct)} right, ${percent(wrong)} wrong, the rest unknown.`;
}
