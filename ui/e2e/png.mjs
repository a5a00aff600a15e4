/** Writes small PNG files, so that the mock needs no picture files. */

import { crc32, deflateSync } from "node:zlib";

export function chunk(type, data) {
  const body = Buffer.concat([Buffer.from(type, "latin1"), data]);
  const out = Buffer.alloc(body.length + 8);
  out.writeUInt32BE(data.length, 0);
  body.copy(out, 4);
  out.writeUInt32BE(crc(body), body.length + 4);
  return out;
}

function crc(data) {
  if (crc32) return crc32(data);
  let value = 0xffffffff;
  for (const byte of data) {
    value ^= byte;
    for (let bit = 0; bit < 8; bit += 1) value = (value >>> 1) ^ (value & 1 ? 0xedb88320 : 0);
  }
  return (value ^ 0xffffffff) >>> 0;
}

/** A gradient with a sun; `noise` from 0 to 1 drowns it. */
export function picture(size, noise = 0) {
  const rows = Buffer.alloc(size * (size * 3 + 1));
  for (let y = 0; y < size; y += 1) {
    for (let x = 0; x < size; x += 1) {
      const at = y * (size * 3 + 1) + 1 + x * 3;
      const sun = Math.hypot(x / size - 0.65, y / size - 0.35) < 0.16 ? 90 : 0;
      const sky = [90 + (120 * y) / size + sun, 110 + (60 * y) / size + sun, 190 - (80 * y) / size];
      for (let c = 0; c < 3; c += 1) {
        const clean = y > size * 0.72 ? [30, 70, 110][c] + 12 * Math.sin(x / 5) : sky[c];
        rows[at + c] = Math.max(0, Math.min(255, clean * (1 - noise) + Math.random() * 255 * noise));
      }
    }
  }
  const header = Buffer.alloc(13);
  header.writeUInt32BE(size, 0);
  header.writeUInt32BE(size, 4);
  header.set([8, 2, 0, 0, 0], 8);
  const signature = Buffer.from([137, 80, 78, 71, 13, 10, 26, 10]);
  return Buffer.concat([signature, chunk("IHDR", header), chunk("IDAT", deflateSync(rows)), chunk("IEND", Buffer.alloc(0))]);
}

/** The same PNG with a text chunk, where saved pictures carry their workflow. */
export function withText(png, keyword, text) {
  const head = 8 + 25;
  return Buffer.concat([png.subarray(0, head), chunk("tEXt", Buffer.from(`${keyword}\0${text}`)), png.subarray(head)]);
}
