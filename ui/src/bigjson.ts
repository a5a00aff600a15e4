/**
 * JSON that keeps integers a double cannot hold, such as 64-bit seeds.
 *
 * Such a literal is carried through the page as a marked string, because the
 * graph library clones values with plain JSON, which rejects `bigint`.
 */

/** A private-use character no editor produces, so user text never collides with it. */
const MARK = "\uE0F1";

/** An integer literal outside the range a double holds exactly. */
export type BigLiteral = string & { readonly __big: unique symbol };

export function isBigLiteral(value: unknown): value is BigLiteral {
  return typeof value === "string" && value.startsWith(MARK) && /^-?\d+$/.test(value.slice(1));
}

/** The digits of a marked integer. */
export function bigDigits(value: BigLiteral): string {
  return value.slice(MARK.length);
}

/** Reads an integer as typed by a user or found in a file: a number where exact, else marked digits. */
export function parseInteger(text: string): number | BigLiteral | undefined {
  const digits = text.trim();
  if (!/^[+-]?\d+$/.test(digits)) return undefined;
  const exact = BigInt(digits);
  const near = Number(exact);
  return Number.isSafeInteger(near) ? near : (`${MARK}${exact}` as BigLiteral);
}

const STRING_OR_LONG_INTEGER = /"(?:[^"\\]|\\.)*"|-?\d{16,}(?![\d.eE])/g;

/** Parses JSON text, marking integers that would lose digits. */
export function parse(text: string): unknown {
  const safe = text.replace(STRING_OR_LONG_INTEGER, (token, offset: number) => {
    if (token.startsWith('"')) return token;
    // Digits after a decimal point or an exponent belong to a float.
    if (/[.\deE+]/.test(text[offset - 1] ?? "")) return token;
    const value = parseInteger(token);
    return typeof value === "number" || value === undefined ? token : JSON.stringify(value);
  });
  return JSON.parse(safe);
}

const MARKED = new RegExp(`"${MARK}(-?\\d+)"`, "g");

/** Writes JSON text, turning marked integers back into plain ones. */
export function stringify(value: unknown, indent?: number): string {
  return JSON.stringify(value, null, indent).replace(MARKED, "$1");
}
