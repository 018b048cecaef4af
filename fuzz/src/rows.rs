//! A store's tables, of any types, keys and values, from few bytes.

/// Bytes that say what comes next; at their end, zeros.
pub(crate) struct Bytes<'b>(pub(crate) &'b [u8]);

/// One table: its name, the names of its types, its rows as the store has them.
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) keys: String,
    pub(crate) values: String,
    pub(crate) rows: Vec<(Vec<u8>, Vec<u8>)>,
}

const SCALARS: [&str; 15] =
    ["str", "bytes", "u8", "u16", "u32", "u64", "u128", "i8", "i16", "i32", "i64", "i128", "bool", "char", "()"];
/// Texts that mean something where values or keys are shown.
const WORDS: [&str; 10] =
    ["$bytes", "$map", "$msgpack", "k", "null", "\u{2028}", "\\x00", "\u{7f}\u{85}\r", "\u{e0001}\u{202e}", "\"\\\n"];

impl Bytes<'_> {
    pub(crate) fn one(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn two(&mut self) -> usize {
        usize::from(u16::from_le_bytes([self.one(), self.one()]))
    }

    /// Up to so many.
    fn some(&mut self, most: usize) -> Vec<u8> {
        let len = usize::from(self.one()) % (most + 1);
        (0..len).map(|_| self.one()).collect()
    }

    fn text(&mut self) -> String {
        let kind = self.one();
        match kind % 8 {
            0 => WORDS[usize::from(kind / 8) % WORDS.len()].to_owned(),
            _ => String::from_utf8_lossy(&self.some(12)).into_owned(),
        }
    }

    fn key_type(&mut self, depth: usize) -> String {
        let kind = self.one();
        match kind % 8 {
            0 if depth < 40 => format!("option<{}>", self.key_type(depth + 1)),
            1 if depth < 4 => {
                let parts: Vec<_> = (0..1 + kind / 8 % 4).map(|_| self.key_type(depth + 1)).collect();
                format!("({})", parts.join(","))
            }
            2 => format!("[u8;{}]", self.one() % 5),
            3 if depth == 0 => self.text(),
            _ => SCALARS[usize::from(kind / 8) % SCALARS.len()].to_owned(),
        }
    }

    /// MessagePack, now and then broken.
    fn message_pack(&mut self, out: &mut Vec<u8>, depth: usize) {
        let kind = self.one();
        let more = |bytes: &mut Self, out: &mut Vec<u8>, n: usize| (0..n).for_each(|_| out.push(bytes.one()));
        match kind % 16 {
            0 => out.push([0xc0, 0xc2, 0xc3, 0xc1][usize::from(kind / 16) % 4]),
            1 => out.push(self.one()),
            2 | 3 => {
                // Integers and floats of each width, needlessly wide ones too.
                let (mark, width) = [
                    (0xcc, 1),
                    (0xcd, 2),
                    (0xce, 4),
                    (0xcf, 8),
                    (0xd0, 1),
                    (0xd1, 2),
                    (0xd2, 4),
                    (0xd3, 8),
                    (0xca, 4),
                    (0xcb, 8),
                ][usize::from(kind / 16) % 10];
                out.push(mark);
                more(self, out, width);
            }
            4..=6 => {
                let text = self.text();
                match kind / 16 % 3 {
                    0 => out.push(0xa0 | text.len().min(31) as u8),
                    1 => out.extend([0xd9, text.len().min(255) as u8]),
                    _ => out.extend([0xda, 0, text.len().min(255) as u8]),
                }
                out.extend(text.bytes());
            }
            7 | 8 => {
                let bytes = self.some(20);
                out.extend([if kind / 16 % 4 == 0 { 0xd9 } else { 0xc4 }, bytes.len() as u8]);
                out.extend(bytes);
            }
            9 => {
                out.extend([0xd4, self.one(), self.one()]);
            }
            10 | 11 => {
                let n = kind / 16 % 5;
                out.push(0x90 | n);
                (0..n).for_each(|_| self.inner(out, depth));
            }
            12..=14 => {
                let n = kind / 16 % 4;
                out.push(0x80 | n);
                (0..2 * n).for_each(|_| self.inner(out, depth));
            }
            _ => {
                // As deep as it says.
                let levels = self.one() % 140;
                let mark = [&[0x91][..], &[0x81, 0xa1, b'n'], &[0x81, 0x01], &[0x92, 0xc0]][usize::from(kind / 16) % 4];
                (0..levels).for_each(|_| out.extend(mark));
                out.push(0xc0);
            }
        }
    }

    fn inner(&mut self, out: &mut Vec<u8>, depth: usize) {
        if depth > 6 || self.0.is_empty() { out.push(self.one() & 0x7f) } else { self.message_pack(out, depth + 1) }
    }

    fn value(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        match self.one() % 8 {
            0 => out = self.some(60),
            1 => out = vec![self.one(); self.two() % 12_000],
            2 => out = self.text().into_bytes(),
            _ => self.message_pack(&mut out, 0),
        }
        out
    }

    fn key(&mut self) -> Vec<u8> {
        match self.one() % 8 {
            0 => self.text().into_bytes(),
            1 => vec![self.one(); self.two() % 8193],
            _ => self.some(24),
        }
    }

    pub(crate) fn tables(&mut self) -> Vec<Table> {
        let mut tables = Vec::new();
        while !self.0.is_empty() && tables.len() < 12 {
            let name = self.text();
            let keys = self.key_type(0);
            let values = match self.one() % 5 {
                0 => "bytes".to_owned(),
                1 => self.text(),
                _ => "msgpack".to_owned(),
            };
            let rows = (0..self.one() % 24).map(|_| (self.key(), self.value())).collect();
            tables.push(Table { name, keys, values, rows });
        }
        tables
    }
}
