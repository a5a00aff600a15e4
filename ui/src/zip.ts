/** Writes ZIP archives without compression: pictures are compressed already. */

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value >>> 0;
});

export function crc32(data: Uint8Array): number {
  let value = 0xffffffff;
  for (const byte of data) value = (TABLE[(value ^ byte) & 0xff] ?? 0) ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}

export interface Entry {
  name: string;
  data: Uint8Array;
}

/** The numbers of a header, little-endian: `[value, bytes]` each. */
function record(fields: readonly (readonly [value: number, bytes: 2 | 4])[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(fields.reduce((sum, [, size]) => sum + size, 0));
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const [value, size] of fields) {
    if (size === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += size;
  }
  return bytes;
}

/** Bit 11 says that names are UTF-8. */
const UTF8 = 0x0800;
const VERSION = 20;
/** 1 January 1980: the archive says nothing about when its files were made. */
const DAY_ONE = 0x21;

/** One archive of all entries. Names that occur twice get a number. */
export function zip(entries: readonly Entry[]): Blob {
  const parts: BlobPart[] = [];
  const directory: BlobPart[] = [];
  const used = new Set<string>();
  let offset = 0;
  let directoryBytes = 0;
  for (const entry of entries) {
    const name = new TextEncoder().encode(unused(entry.name, used));
    const size = entry.data.length;
    const about = [[VERSION, 2], [UTF8, 2], [0, 2], [0, 2], [DAY_ONE, 2], [crc32(entry.data), 4], [size, 4], [size, 4], [name.length, 2], [0, 2]] as const;
    const local = record([[0x04034b50, 4], ...about]);
    const central = record([[0x02014b50, 4], [VERSION, 2], ...about, [0, 2], [0, 2], [0, 2], [0, 4], [offset, 4]]);
    parts.push(local, name, entry.data as Uint8Array<ArrayBuffer>);
    directory.push(central, name);
    offset += local.length + name.length + size;
    directoryBytes += central.length + name.length;
  }
  const count = entries.length;
  const end = record([[0x06054b50, 4], [0, 2], [0, 2], [count, 2], [count, 2], [directoryBytes, 4], [offset, 4], [0, 2]]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

function unused(name: string, used: Set<string>): string {
  let free = name;
  for (let copy = 2; used.has(free); copy += 1) free = name.replace(/(\.[^.]*)?$/, (ending) => ` (${copy})${ending}`);
  used.add(free);
  return free;
}
