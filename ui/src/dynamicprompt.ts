/** Choices in prompts: `{day|night}` becomes one of its parts at each run. */

/** Replaces comments and choices; `\{`, `\|` and `\}` stand for the characters themselves. */
export function expandPrompt(text: string, random: () => number): string {
  const bare = text.replace(/\/\*[^]*?\*\/|\/\/.*/g, "");
  const { parts } = readParts(bare, 0, random, false);
  return parts[0] ?? "";
}

interface Parts {
  parts: string[];
  end: number;
  closed: boolean;
}

/** Reads up to the closing brace of a choice, or to the end of the text outside of one. */
function readParts(text: string, start: number, random: () => number, inside: boolean): Parts {
  const parts = [""];
  const add = (piece: string): void => {
    parts[parts.length - 1] += piece;
  };
  let at = start;
  while (at < text.length) {
    const char = text[at] as string;
    const next = text[at + 1];
    if (char === "\\" && next !== undefined && "{|}".includes(next)) {
      add(next);
      at += 2;
    } else if (char === "{") {
      const choice = readParts(text, at + 1, random, true);
      // A brace nobody closes is just a brace.
      if (choice.closed) add(choice.parts[Math.floor(random() * choice.parts.length)] ?? "");
      else add(`{${choice.parts.join("|")}`);
      at = choice.end;
    } else if (inside && char === "|") {
      parts.push("");
      at += 1;
    } else if (inside && char === "}") {
      return { parts, end: at + 1, closed: true };
    } else {
      add(char);
      at += 1;
    }
  }
  return { parts, end: at, closed: false };
}
