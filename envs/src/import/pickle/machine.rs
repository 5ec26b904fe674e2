//! The stack machine of protocol 2: values are made, remembered and put together, and nothing is called.

use std::collections::BTreeMap;

use super::{Global, Id, Pickle, PickleError, Tensor, Value};

/// Storages are called by their number. A name is copied into each tensor, so a long one could be made to fill the memory.
const LONGEST_KEY: usize = 32;
/// Axes that a tensor may have; copied likewise.
const MOST_AXES: usize = 8;

pub(super) struct Machine<'a> {
    bytes: &'a [u8],
    /// The next byte.
    at: usize,
    /// Where the instruction at work began.
    begun: usize,
    values: Vec<Value>,
    stack: Vec<Id>,
    /// How high the stack was at each mark.
    marks: Vec<usize>,
    memo: BTreeMap<u32, Id>,
}

impl<'a> Machine<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        let (values, stack, marks) = (Vec::new(), Vec::new(), Vec::new());
        Self { bytes, at: 0, begun: 0, values, stack, marks, memo: BTreeMap::new() }
    }

    pub fn run(mut self) -> Result<Pickle, PickleError> {
        loop {
            self.begun = self.at;
            match self.take::<1>()?[0] {
                0x80 => match self.take::<1>()?[0] {
                    2 => {}
                    other => return self.refuse(format!("protocol {other}; torch.save writes protocol 2")),
                },
                b'.' => {
                    let root = self.pop()?;
                    if !self.stack.is_empty() || !self.marks.is_empty() || self.at != self.bytes.len() {
                        return self.refuse("it ends, and something is left over");
                    }
                    return Ok(Pickle { values: self.values, root });
                }
                b'(' => self.marks.push(self.stack.len()),
                b'N' | 0x88 | 0x89 => self.push(Value::Opaque),
                b'K' => self.int::<1>()?,
                b'M' => self.int::<2>()?,
                b'J' => {
                    let number = i32::from_le_bytes(self.take()?);
                    self.push(Value::Int(number.into()));
                }
                0x8a => self.long()?,
                b'G' => {
                    self.take::<8>()?;
                    self.push(Value::Opaque);
                }
                b'X' => {
                    let length = u32::from_le_bytes(self.take()?) as usize;
                    let text = self.slice(length)?;
                    let text = str::from_utf8(text).map(str::to_owned);
                    let text = text.or_else(|_| self.refuse("a text that is not UTF-8"))?;
                    self.push(Value::Text(text));
                }
                b')' => self.push(Value::Tuple(Vec::new())),
                b']' => self.push(Value::List(Vec::new())),
                b'}' => self.push(Value::Dict(Vec::new())),
                0x85 => self.tuple(1)?,
                0x86 => self.tuple(2)?,
                0x87 => self.tuple(3)?,
                b't' => {
                    let items = self.pop_to_mark()?;
                    self.push(Value::Tuple(items));
                }
                b'q' => self.remember::<1>()?,
                b'r' => self.remember::<4>()?,
                b'h' => self.recall::<1>()?,
                b'j' => self.recall::<4>()?,
                b's' => {
                    let items = self.pop_many(2)?;
                    self.set_items(&items)?;
                }
                b'u' => {
                    let items = self.pop_to_mark()?;
                    self.set_items(&items)?;
                }
                b'a' => {
                    let item = self.pop()?;
                    self.append(&[item])?;
                }
                b'e' => {
                    let items = self.pop_to_mark()?;
                    self.append(&items)?;
                }
                b'c' => self.global()?,
                b'Q' => self.storage()?,
                b'R' => self.reduce()?,
                0x81 => self.new_object()?,
                b'b' => self.build()?,
                other => return self.refuse(format!("instruction {other:#04x}, which tensors do not need")),
            }
        }
    }

    fn refuse<T>(&self, reason: impl Into<String>) -> Result<T, PickleError> {
        Err(PickleError::Broken { at: self.begun, reason: reason.into() })
    }

    fn slice(&mut self, length: usize) -> Result<&'a [u8], PickleError> {
        let found = self.at.checked_add(length).and_then(|end| self.bytes.get(self.at..end));
        let Some(found) = found else { return self.refuse("it ends in the middle") };
        self.at += length;
        Ok(found)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        Ok(self.slice(N)?.try_into().expect("a slice of N bytes"))
    }

    /// An unsigned number of `N` bytes, at most four.
    fn number<const N: usize>(&mut self) -> Result<u32, PickleError> {
        let mut word = [0; 4];
        word[..N].copy_from_slice(&self.take::<N>()?);
        Ok(u32::from_le_bytes(word))
    }

    fn push(&mut self, value: Value) {
        self.stack.push(self.values.len());
        self.values.push(value);
    }

    fn pop(&mut self) -> Result<Id, PickleError> {
        Ok(self.pop_many(1)?[0])
    }

    /// The upper `count` values, none of them below the last mark.
    fn pop_many(&mut self, count: usize) -> Result<Vec<Id>, PickleError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.len().checked_sub(count) {
            Some(first) if first >= floor => Ok(self.stack.split_off(first)),
            _ => self.refuse("it takes a value that is not there"),
        }
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, PickleError> {
        match self.marks.pop() {
            Some(mark) => Ok(self.stack.split_off(mark)),
            None => self.refuse("it takes the values since a mark that is not there"),
        }
    }

    fn int<const N: usize>(&mut self) -> Result<(), PickleError> {
        let number = self.number::<N>()?;
        self.push(Value::Int(number.into()));
        Ok(())
    }

    /// An integer of any length, of which those of up to eight bytes are taken.
    fn long(&mut self) -> Result<(), PickleError> {
        let length = usize::from(self.take::<1>()?[0]);
        if length > 8 {
            return self.refuse(format!("an integer of {length} bytes"));
        }
        let bytes = self.slice(length)?;
        let fill = if bytes.last().is_some_and(|&high| high >= 0x80) { 0xff } else { 0 };
        let mut word = [fill; 8];
        word[..length].copy_from_slice(bytes);
        self.push(Value::Int(i64::from_le_bytes(word)));
        Ok(())
    }

    fn tuple(&mut self, count: usize) -> Result<(), PickleError> {
        let items = self.pop_many(count)?;
        self.push(Value::Tuple(items));
        Ok(())
    }

    fn remember<const N: usize>(&mut self) -> Result<(), PickleError> {
        let place = self.number::<N>()?;
        match self.stack.last() {
            Some(&id) => self.memo.insert(place, id),
            None => return self.refuse("it remembers a value that is not there"),
        };
        Ok(())
    }

    fn recall<const N: usize>(&mut self) -> Result<(), PickleError> {
        let place = self.number::<N>()?;
        match self.memo.get(&place) {
            Some(&id) => self.stack.push(id),
            None => return self.refuse(format!("it recalls value {place}, which it has not remembered")),
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[Id]) -> Result<(), PickleError> {
        let (pairs, odd) = items.as_chunks::<2>();
        let dict = self.stack.last().copied();
        match dict.map(|id| &mut self.values[id]) {
            Some(Value::Dict(items)) if odd.is_empty() => items.extend(pairs.iter().map(|&[key, value]| (key, value))),
            _ => return self.refuse("it sets items of what is no dict"),
        }
        Ok(())
    }

    fn append(&mut self, items: &[Id]) -> Result<(), PickleError> {
        let list = self.stack.last().copied();
        match list.map(|id| &mut self.values[id]) {
            Some(Value::List(list)) => list.extend(items),
            _ => return self.refuse("it appends to what is no list"),
        }
        Ok(())
    }

    fn global(&mut self) -> Result<(), PickleError> {
        let mut line = || {
            let rest = &self.bytes[self.at..];
            let length = rest.iter().position(|&byte| byte == b'\n')?;
            self.at += length + 1;
            Some(String::from_utf8_lossy(&rest[..length]).into_owned())
        };
        let (Some(module), Some(name)) = (line(), line()) else {
            return self.refuse("it ends in the middle of a name");
        };
        let Some(global) = Global::of(&module, &name) else {
            // A name is as long as its author pleases.
            let global = format!("{module}.{name}").chars().take(100).flat_map(char::escape_debug).collect();
            return Err(PickleError::Global { global });
        };
        self.push(Value::Global(global));
        Ok(())
    }

    /// `('storage', class, key, device, numbers)`. Where the tensor was does not matter.
    fn storage(&mut self) -> Result<(), PickleError> {
        let id = self.pop()?;
        let storage = match self.tuple_of(id).map(|items| items.map(|id| &self.values[id])) {
            Some(
                [
                    Value::Text(kind),
                    Value::Global(Global::Storage(element)),
                    Value::Text(key),
                    Value::Text(_),
                    Value::Int(numbers),
                ],
            ) if kind == "storage" && key.len() <= LONGEST_KEY => {
                u64::try_from(*numbers).ok().map(|n| (key.clone(), *element, n))
            }
            _ => None,
        };
        let Some((key, element, numbers)) = storage else { return self.refuse("a storage that torch does not write") };
        self.push(Value::Storage { key, element, numbers });
        Ok(())
    }

    fn tuple_of<const N: usize>(&self, id: Id) -> Option<[Id; N]> {
        match &self.values[id] {
            Value::Tuple(items) => items.as_slice().try_into().ok(),
            _ => None,
        }
    }

    fn reduce(&mut self) -> Result<(), PickleError> {
        let called = self.pop_many(2)?;
        let (Value::Global(global), Value::Tuple(arguments)) = (&self.values[called[0]], &self.values[called[1]])
        else {
            return self.refuse("it calls what cannot be called");
        };
        let value = match (global, arguments.as_slice()) {
            (Global::RebuildTensor, arguments) => self.tensor(arguments).map(Value::Tensor),
            (Global::Dict, []) => Some(Value::Dict(Vec::new())),
            (Global::MakeTensorDict, &[class, state]) => {
                let made = matches!(self.values[class], Value::Global(Global::TensorDict));
                (made && matches!(self.values[state], Value::Dict(_))).then_some(Value::TensorDict(Some(state)))
            }
            (Global::Opaque, _) => Some(Value::Opaque),
            _ => None,
        };
        let Some(value) = value else { return self.refuse("a call with arguments that torch does not write") };
        self.push(value);
        Ok(())
    }

    /// `(storage, offset, shape, strides, requires_grad, hooks)`, and in some versions metadata.
    fn tensor(&self, arguments: &[Id]) -> Option<Tensor> {
        let [storage, offset, shape, strides, _, _, ..] = *arguments else { return None };
        let Value::Storage { key, element, numbers } = &self.values[storage] else { return None };
        let whole = |id: Id| match self.values[id] {
            Value::Int(number) => u64::try_from(number).ok(),
            _ => None,
        };
        let all = |id: Id| match &self.values[id] {
            Value::Tuple(numbers) if numbers.len() <= MOST_AXES => {
                numbers.iter().map(|&id| whole(id)).collect::<Option<Vec<u64>>>()
            }
            _ => None,
        };
        let (shape, strides) = (all(shape)?, all(strides)?);
        (shape.len() == strides.len()).then_some(Tensor {
            storage: key.clone(),
            element: *element,
            numbers: *numbers,
            offset: whole(offset)?,
            shape,
            strides,
        })
    }

    fn new_object(&mut self) -> Result<(), PickleError> {
        let made = self.pop_many(2)?;
        let value = match (&self.values[made[0]], self.tuple_of::<0>(made[1])) {
            (Value::Global(Global::TensorDict), Some(_)) => Value::TensorDict(None),
            (Value::Global(Global::Dict), Some(_)) => Value::Dict(Vec::new()),
            _ => return self.refuse("an object of a class that cannot be made so"),
        };
        self.push(value);
        Ok(())
    }

    fn build(&mut self) -> Result<(), PickleError> {
        let state = self.pop()?;
        let is_dict = matches!(self.values[state], Value::Dict(_));
        let object = self.stack.last().copied();
        match object.map(|id| &mut self.values[id]) {
            Some(Value::TensorDict(held @ None)) if is_dict => *held = Some(state),
            _ => return self.refuse("it gives attributes to what has none"),
        }
        Ok(())
    }
}
