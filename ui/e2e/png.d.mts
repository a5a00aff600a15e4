export function chunk(type: string, data: Buffer): Buffer;
export function picture(size: number, noise?: number): Buffer;
export function withText(png: Buffer, keyword: string, text: string): Buffer;
