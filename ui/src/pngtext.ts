/** Reads the text chunks of a PNG, where saved pictures carry their workflow. */

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];

/** Keyword to text of every `tEXt` chunk; empty for anything that is no PNG. */
export function pngText(bytes: Uint8Array): Map<string, string> {
  const found = new Map<string, string>();
  if (!SIGNATURE.every((byte, index) => bytes[index] === byte)) return found;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = SIGNATURE.length;
  while (at + 12 <= bytes.length) {
    const length = view.getUint32(at);
    const start = at + 8;
    if (start + length + 4 > bytes.length) break;
    const type = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (type === "tEXt") addText(bytes.subarray(start, start + length), found);
    at = start + length + 4;
  }
  return found;
}

function addText(data: Uint8Array, found: Map<string, string>): void {
  const end = data.indexOf(0);
  if (end < 0) return;
  // JSON in these chunks is ASCII with escapes; writers that skip those use UTF-8.
  const decode = (part: Uint8Array): string => new TextDecoder().decode(part);
  found.set(decode(data.subarray(0, end)), decode(data.subarray(end + 1)));
}
