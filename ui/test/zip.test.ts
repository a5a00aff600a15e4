import { expect, test } from "vitest";
import { crc32, zip } from "../src/zip";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

test("the checksum is the one of the standard", () => {
  expect(crc32(bytes("123456789"))).toBe(0xcbf43926);
});

test("an archive reads back entry by entry, through its directory", async () => {
  const entries = [["a.txt", "hello"], ["pictures/é.png", "\u0000\u0001"], ["a.txt", "again"]] as const;
  const blob = zip(entries.map(([name, text]) => ({ name, data: bytes(text) })));
  const file = Buffer.from(await blob.arrayBuffer());
  const end = file.length - 22;
  expect(file.readUInt32LE(end)).toBe(0x06054b50);
  expect(file.readUInt16LE(end + 10)).toBe(3);
  let at = file.readUInt32LE(end + 16);
  const seen: [string, string][] = [];
  for (let i = 0; i < 3; i += 1) {
    expect(file.readUInt32LE(at)).toBe(0x02014b50);
    const [crc, size, nameLength, local] = [file.readUInt32LE(at + 16), file.readUInt32LE(at + 24), file.readUInt16LE(at + 28), file.readUInt32LE(at + 42)];
    const name = file.subarray(at + 46, at + 46 + nameLength).toString("utf8");
    expect(file.readUInt32LE(local)).toBe(0x04034b50);
    const start = local + 30 + file.readUInt16LE(local + 26) + file.readUInt16LE(local + 28);
    const data = file.subarray(start, start + size);
    expect(crc32(data)).toBe(crc);
    seen.push([name, data.toString("utf8")]);
    at += 46 + nameLength;
  }
  expect(at).toBe(end);
  expect(seen).toEqual([["a.txt", "hello"], ["pictures/é.png", "\u0000\u0001"], ["a (2).txt", "again"]]);
});
