// Colors of actions and persons, and of text on them.

const PERSON_HUES = [207, 28, 145, 330, 265, 50, 180, 0, 95, 235]; // far apart for few persons

/** @typedef {[number, number, number]} Rgb red, green and blue from 0 to 1 */

/**
 * @param {number} hue degrees
 * @param {number} saturation from 0 to 1
 * @param {number} lightness from 0 to 1
 * @returns {Rgb}
 */
export function toRgb(hue, saturation, lightness) {
  const reach = saturation * Math.min(lightness, 1 - lightness);
  const channel = (/** @type {number} */ n) => {
    const k = (n + hue / 30) % 12;
    return lightness - reach * Math.max(-1, Math.min(k - 3, 9 - k, 1));
  };
  return [channel(0), channel(8), channel(4)];
}

/**
 * Return the relative luminance (WCAG 2).
 * @param {Rgb} color
 */
export function luminance(color) {
  const [r, g, b] = color.map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

/**
 * Return the contrast ratio of two colors (WCAG 2).
 * @param {Rgb} a
 * @param {Rgb} b
 */
export function contrast(a, b) {
  const [dark, light] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (light + 0.05) / (dark + 0.05);
}

/**
 * Return black or white, whichever has more contrast: at least 4.5 on any color.
 * @param {Rgb} background
 * @returns {Rgb}
 */
export function textOn(background) {
  return contrast(background, [0, 0, 0]) > contrast(background, [1, 1, 1]) ? [0, 0, 0] : [1, 1, 1];
}

/** @param {Rgb} color */
export function toCss(color) {
  return `rgb(${color.map((value) => Math.round(255 * value)).join(" ")})`;
}

/**
 * @param {number} label
 * @param {boolean} isDark
 */
export function labelColor(label, isDark) {
  return toRgb((207 + label * 137.508) % 360, isDark ? 0.42 : 0.52, isDark ? 0.4 : 0.46);
}

/** @param {number} person from 1 */
export function personColor(person) {
  return toRgb(PERSON_HUES[(person - 1) % PERSON_HUES.length], 0.85, 0.7);
}
