//! Runs the instructions of one pickle.

use crate::error::{Error, Result, check_limit};
use crate::globals::Global;
use crate::limits::{MAX_MEMO, MAX_OPCODES, MAX_STACK};
use crate::rebuild;
use crate::source::Source;
use crate::value::{Arena, Value};
use std::collections::HashMap;
use std::io::BufRead;

/// Little-endian bytes of the number that the legacy format begins with, and the same as text.
const MAGIC_BYTES: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const MAGIC_TEXT: &str = "119547037146038801333356";

/// Runs one pickle to its end and returns what it leaves.
///
/// # Errors
/// When an instruction is unknown, does not fit, names a global that is not allowed, or goes over a limit.
pub(crate) fn run<R: BufRead>(source: &mut Source<R>, arena: &mut Arena) -> Result<Value> {
    let mut machine = Machine { source, arena, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
    for _ in 0..MAX_OPCODES {
        let opcode = machine.source.byte()?;
        if opcode == b'.' {
            return machine.pop();
        }
        machine.step(opcode)?;
        check_limit("values on the stack", machine.stack.len() as u64, MAX_STACK as u64)?;
    }
    Err(Error::Limit { what: "instructions", limit: MAX_OPCODES })
}

struct Machine<'a, R> {
    source: &'a mut Source<R>,
    arena: &'a mut Arena,
    stack: Vec<Value>,
    /// Stack heights at which a group of values begins.
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
}

impl<R: BufRead> Machine<'_, R> {
    /// Carries out one instruction; the numbers are those of Python's `pickletools`.
    fn step(&mut self, opcode: u8) -> Result<()> {
        match opcode {
            // Protocol and frames say nothing that reading on does not.
            0x80 => self.source.skip(1),
            0x95 => self.source.skip(8),

            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'J' => self.int(|s| Ok(i32::from_le_bytes(s.array()?).into())),
            b'K' => self.int(|s| Ok(s.byte()?.into())),
            b'M' => self.int(|s| Ok(u16::from_le_bytes(s.array()?).into())),
            b'I' => self.int_text(),
            b'L' => self.long_text(),
            0x8a => self.byte_length().and_then(|length| self.long(length)),
            0x8b => self.long_length().and_then(|length| self.long(length)),
            b'G' => self.ignored(8),
            b'F' => self.source.line().and_then(|_| self.push(Value::Ignored)),

            b'U' | 0x8c => self.byte_length().and_then(|length| self.text(length)),
            b'T' | b'X' => self.long_length().and_then(|length| self.text(length)),
            0x8d => self.huge_length().and_then(|length| self.text(length)),
            b'V' => self.source.line().and_then(|line| self.push_text(line)),
            b'S' => self.quoted(),
            b'C' => self.byte_length().and_then(|length| self.ignored(length)),
            b'B' => self.long_length().and_then(|length| self.ignored(length)),
            0x8e | 0x96 => self.huge_length().and_then(|length| self.ignored(length)),

            b'(' => self.mark(),
            b'0' => self.pop_or_mark(),
            b'1' => self.group().map(drop),
            b'2' => self.top().and_then(|value| self.push(value)),

            b')' | b']' => self.push_sequence(Vec::new()),
            b't' | b'l' => self.group().and_then(|items| self.push_sequence(items)),
            0x85..=0x87 => self.pop_many(usize::from(opcode - 0x84)).and_then(|v| self.push_sequence(v)),
            b'}' => self.arena.add_dict().and_then(|dict| self.push(dict)),
            b'd' => self.group().and_then(|items| self.dict(&items)),
            b'a' => self.pop().and_then(|item| self.append(&[item])),
            b'e' => self.group().and_then(|items| self.append(&items)),
            b's' => self.pop_many(2).and_then(|pair| self.set(&pair)),
            b'u' => self.group().and_then(|items| self.set(&items)),
            0x8f => self.push(Value::Ignored),
            0x90 => self.group().map(drop),
            0x91 => self.group().and_then(|_| self.push(Value::Ignored)),

            b'q' | b'r' | b'p' => self.memo_index(opcode).and_then(|index| self.put(index)),
            0x94 => self.put(u32::try_from(self.memo.len()).expect("the memo is bounded")),
            b'h' | b'j' | b'g' => self.memo_index(opcode).and_then(|index| self.get(index)),

            b'c' => self.global(),
            0x93 => self.stack_global(),
            b'R' | 0x81 => self.call(),
            0x92 => self.pop().and_then(|_| self.call()),
            b'o' => self.call_group(),
            b'i' => self.call_named(),
            b'b' => self.pop().map(drop),
            b'Q' => self.persistent(),
            _ => Err(Error::damaged(format!("`{opcode:#04x}` is no instruction that is known"))),
        }
    }

    // ---- stack ----

    fn push(&mut self, value: Value) -> Result<()> {
        self.stack.push(value);
        Ok(())
    }

    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Value> {
        if self.stack.len() <= self.floor() {
            return Err(Error::damaged("a value is missing on the stack"));
        }
        Ok(self.stack.pop().expect("the stack is higher than its floor"))
    }

    fn top(&self) -> Result<Value> {
        if self.stack.len() <= self.floor() {
            return Err(Error::damaged("a value is missing on the stack"));
        }
        Ok(self.stack[self.stack.len() - 1])
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Value>> {
        let start = self.stack.len().checked_sub(count).filter(|&start| start >= self.floor());
        Ok(self.stack.split_off(start.ok_or_else(|| Error::damaged("values are missing on the stack"))?))
    }

    fn mark(&mut self) -> Result<()> {
        self.marks.push(self.stack.len());
        check_limit("values on the stack", self.marks.len() as u64, MAX_STACK as u64)
    }

    /// Takes the values since the last mark, and the mark.
    fn group(&mut self) -> Result<Vec<Value>> {
        let mark = self.marks.pop().ok_or_else(|| Error::damaged("a mark is missing on the stack"))?;
        Ok(self.stack.split_off(mark))
    }

    fn pop_or_mark(&mut self) -> Result<()> {
        if self.marks.last() == Some(&self.stack.len()) {
            self.marks.pop();
            return Ok(());
        }
        self.pop().map(drop)
    }

    // ---- plain values ----

    fn int(&mut self, read: impl FnOnce(&mut Source<R>) -> Result<i64>) -> Result<()> {
        let number = read(self.source)?;
        self.push(Value::Int(number))
    }

    fn int_text(&mut self) -> Result<()> {
        let line = self.source.line()?;
        let value = match line.as_str() {
            "00" => Value::Bool(false),
            "01" => Value::Bool(true),
            digits => digits.parse().map_or(Value::Ignored, Value::Int),
        };
        self.push(value)
    }

    fn long_text(&mut self) -> Result<()> {
        let line = self.source.line()?;
        let value = match line.trim_end_matches('L') {
            MAGIC_TEXT => Value::Magic,
            digits => digits.parse().map_or(Value::Ignored, Value::Int),
        };
        self.push(value)
    }

    /// A number of `length` bytes in two's complement. What does not fit into 64 bits is of no use and is ignored.
    fn long(&mut self, length: u64) -> Result<()> {
        if length > 10 {
            return self.ignored(length);
        }
        let bytes = self.source.take(length)?;
        let value = if bytes == MAGIC_BYTES {
            Value::Magic
        } else if bytes.len() <= 8 {
            let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
            let mut wide = [if negative { 0xff } else { 0 }; 8];
            wide[..bytes.len()].copy_from_slice(&bytes);
            Value::Int(i64::from_le_bytes(wide))
        } else {
            Value::Ignored
        };
        self.push(value)
    }

    fn ignored(&mut self, length: u64) -> Result<()> {
        self.source.skip(length)?;
        self.push(Value::Ignored)
    }

    fn byte_length(&mut self) -> Result<u64> {
        Ok(self.source.byte()?.into())
    }

    fn long_length(&mut self) -> Result<u64> {
        Ok(u32::from_le_bytes(self.source.array()?).into())
    }

    fn huge_length(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.source.array()?))
    }

    /// A text, or a byte string of Python 2, which is a text as well where it can be.
    fn text(&mut self, length: u64) -> Result<()> {
        match String::from_utf8(self.source.take(length)?) {
            Ok(text) => self.push_text(text),
            Err(_) => self.push(Value::Ignored),
        }
    }

    fn quoted(&mut self) -> Result<()> {
        let line = self.source.line()?;
        let inner = ['\'', '"'].iter().find_map(|&q| line.strip_prefix(q)?.strip_suffix(q));
        match inner {
            Some(text) if !text.contains('\\') => self.push_text(text.to_owned()),
            Some(_) => self.push(Value::Ignored),
            None => Err(Error::damaged("a text has no quotes")),
        }
    }

    fn push_text(&mut self, text: String) -> Result<()> {
        let value = self.arena.add_text(text)?;
        self.push(value)
    }

    // ---- containers ----

    fn push_sequence(&mut self, items: Vec<Value>) -> Result<()> {
        let value = self.arena.add_sequence(items)?;
        self.push(value)
    }

    fn dict(&mut self, items: &[Value]) -> Result<()> {
        let dict = self.arena.add_dict()?;
        self.arena.set(dict, items)?;
        self.push(dict)
    }

    fn append(&mut self, items: &[Value]) -> Result<()> {
        let list = self.top()?;
        self.arena.extend(list, items)
    }

    fn set(&mut self, items: &[Value]) -> Result<()> {
        let dict = self.top()?;
        self.arena.set(dict, items)
    }

    // ---- memo ----

    /// The memo position that follows an instruction: one byte, four bytes, or a line of text.
    fn memo_index(&mut self, opcode: u8) -> Result<u32> {
        match opcode {
            b'q' | b'h' => Ok(self.source.byte()?.into()),
            b'r' | b'j' => Ok(u32::from_le_bytes(self.source.array()?)),
            _ => self.source.line()?.parse().map_err(|_| Error::damaged("a memo position is no number")),
        }
    }

    fn put(&mut self, index: u32) -> Result<()> {
        let value = self.top()?;
        self.memo.insert(index, value);
        check_limit("values kept for later", self.memo.len() as u64, MAX_MEMO as u64)
    }

    fn get(&mut self, index: u32) -> Result<()> {
        let value = self.memo.get(&index).copied();
        self.push(value.ok_or_else(|| Error::damaged(format!("memo position {index} is empty")))?)
    }

    // ---- names and calls ----

    fn global(&mut self) -> Result<()> {
        let (module, name) = (self.source.line()?, self.source.line()?);
        self.push(Value::Global(Global::find(&module, &name)?))
    }

    fn stack_global(&mut self) -> Result<()> {
        let names = self.pop_many(2)?;
        let (Some(module), Some(name)) = (self.arena.text(names[0]), self.arena.text(names[1])) else {
            return Err(Error::damaged("a name is no text"));
        };
        let global = Global::find(module, name)?;
        self.push(Value::Global(global))
    }

    fn call(&mut self) -> Result<()> {
        let pair = self.pop_many(2)?;
        let value = rebuild::call(self.arena, pair[0], pair[1])?;
        self.push(value)
    }

    fn call_group(&mut self) -> Result<()> {
        let items = self.group()?;
        let (&function, arguments) =
            items.split_first().ok_or_else(|| Error::damaged("nothing is called"))?;
        let arguments = self.arena.add_sequence(arguments.to_vec())?;
        let value = rebuild::call(self.arena, function, arguments)?;
        self.push(value)
    }

    fn call_named(&mut self) -> Result<()> {
        let (module, name) = (self.source.line()?, self.source.line()?);
        let function = Value::Global(Global::find(&module, &name)?);
        let items = self.group()?;
        let arguments = self.arena.add_sequence(items)?;
        let value = rebuild::call(self.arena, function, arguments)?;
        self.push(value)
    }

    fn persistent(&mut self) -> Result<()> {
        let id = self.pop()?;
        let storage = rebuild::storage(self.arena, id)?;
        self.push(storage)
    }
}
