/** How well one colour can be read on another. Pure. */

type Rgb = [number, number, number];

const ENOUGH = 4.5;

/** Reads `#rgb` and `#rrggbb`; anything else is not understood. */
function parse(colour: string): Rgb | undefined {
  const digits = /^#([0-9a-f]{3}|[0-9a-f]{6})$/i.exec(colour)?.[1];
  if (digits === undefined) return undefined;
  const full = digits.length === 3 ? [...digits].map((digit) => digit + digit).join("") : digits;
  return [0, 2, 4].map((at) => parseInt(full.slice(at, at + 2), 16)) as Rgb;
}

/** Relative luminance, as WCAG 2 defines it. */
function luminance(colour: Rgb): number {
  const [r = 0, g = 0, b = 0] = colour.map((part) => {
    const share = part / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function ratio(a: Rgb, b: Rgb): number {
  const [one, two] = [luminance(a), luminance(b)];
  return (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
}

/** The contrast of two colours, from 1 to 21. */
export function contrast(a: string, b: string): number {
  const [one, two] = [parse(a), parse(b)];
  return one && two ? ratio(one, two) : 1;
}

/** `colour`, mixed with `ground` only as far as `text` needs to be read on it. */
export function towards(colour: string, ground: string, text: string): string {
  const [from, to, ink] = [parse(colour), parse(ground), parse(text)];
  if (!from || !to || !ink) return colour;
  for (let share = 0; share <= 1; share += 0.1) {
    const mixed = from.map((part, at) => Math.round(part + ((to[at] ?? 0) - part) * share)) as Rgb;
    if (ratio(mixed, ink) >= ENOUGH) return `#${mixed.map((part) => part.toString(16).padStart(2, "0")).join("")}`;
  }
  return ground;
}
