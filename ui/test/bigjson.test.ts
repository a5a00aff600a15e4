import { describe, expect, test } from "vitest";
import { isBigLiteral, parse, parseInteger, stringify } from "../src/bigjson";

describe("big integers in JSON", () => {
  const kept = [
    '{"seed":18446744073709551615}',
    "[9007199254740993,-9007199254740993]",
    '{"a":9007199254740991,"b":0.12345678901234568}',
    '{"text":"18446744073709551615","t2":"a \\" 18446744073709551615 b"}',
    "[1e+21,1.5,-0.25]",
  ];
  test.each(kept)("%s survives a round trip", (text) => {
    expect(stringify(parse(text))).toBe(text);
  });

  test("only integers a double cannot hold are marked", () => {
    const [small, big] = parse("[9007199254740991,9007199254740993]") as unknown[];
    expect(small).toBe(Number.MAX_SAFE_INTEGER);
    expect(isBigLiteral(big)).toBe(true);
  });

  test("marked integers survive plain JSON, as the graph library clones values", () => {
    const value = parse("[18446744073709551615]");
    expect(stringify(JSON.parse(JSON.stringify(value)))).toBe("[18446744073709551615]");
  });

  test.each(["1.5", "", "12x", "0x10"])("`%s` is no integer", (text) => {
    expect(parseInteger(text)).toBeUndefined();
  });

  test("text that looks like digits is not taken for a marked integer", () => {
    expect(isBigLiteral("18446744073709551615")).toBe(false);
  });
});
