import { expect, test } from "vitest";
import { pngText } from "../src/pngtext";

const chunk = (type: string, text: string): Buffer => {
  const data = Buffer.from(text, "utf8");
  const head = Buffer.alloc(8);
  head.writeUInt32BE(data.length, 0);
  head.write(type, 4, "latin1");
  return Buffer.concat([head, data, Buffer.alloc(4)]);
};
const SIGNATURE = Buffer.from([137, 80, 78, 71, 13, 10, 26, 10]);
const FILE = Buffer.concat([SIGNATURE, chunk("IHDR", "x".repeat(13)), chunk("tEXt", 'prompt\0{"1":{}}'), chunk("tEXt", 'workflow\0{"é":1}'), chunk("IEND", "")]);

test("text chunks are found by keyword", () => {
  expect(Object.fromEntries(pngText(new Uint8Array(FILE)))).toEqual({ prompt: '{"1":{}}', workflow: '{"é":1}' });
});

test("a cut or foreign file gives what is whole, or nothing", () => {
  for (let length = 0; length < FILE.length; length += 1) expect(pngText(new Uint8Array(FILE.subarray(0, length))).size).toBeLessThanOrEqual(2);
  expect(pngText(new TextEncoder().encode('{"not":"a png"}')).size).toBe(0);
  expect([...pngText(new Uint8Array(FILE.subarray(0, FILE.length - 30))).keys()]).toEqual(["prompt"]);
});
