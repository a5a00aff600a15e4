import { expect, test } from "vitest";
import { expandPrompt } from "../src/dynamicprompt";

test.each([
  ["a {red|green|blue} kite", 0, "a red kite"],
  ["a {red|green|blue} kite", 0.5, "a green kite"],
  ["a {red|green|blue} kite", 0.99, "a blue kite"],
  ["{a {b|c}|d}", 0, "a b"],
  ["{a|}", 0.9, ""],
  ["a \\{x\\|y\\} (b:1.2) \\(c\\)", 0, "a {x|y} (b:1.2) \\(c\\)"],
  ["open { brace | here", 0, "open { brace | here"],
  ["plain | text }", 0, "plain | text }"],
  ["sea /* not\nthis */, sky // nor this\nsun", 0, "sea , sky \nsun"],
])("%s at %f gives %s", (text, at, wanted) => {
  expect(expandPrompt(text, () => at)).toBe(wanted);
});
