//! As much of Protocol Buffers as writing a message takes: numbered fields that are integers, bytes or messages.

/// A message.
#[derive(Clone, Debug, Default)]
pub struct Message(Vec<u8>);

impl Message {
    /// With an integer as field `number`; negative ones take ten bytes.
    pub fn int(mut self, number: u32, value: i64) -> Self {
        self.varint(u64::from(number) << 3);
        self.varint(value as u64);
        self
    }

    /// With bytes, or text, as field `number`.
    pub fn bytes(mut self, number: u32, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        self.varint(u64::from(number) << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    /// With a message as field `number`.
    pub fn message(self, number: u32, value: Message) -> Self {
        self.bytes(number, value.0)
    }

    /// With a field `number` for each of several values.
    pub fn each<T>(self, values: impl IntoIterator<Item = T>, add: impl Fn(Self, T) -> Self) -> Self {
        values.into_iter().fold(self, add)
    }

    /// As it is written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentations_examples() {
        // "Encoding", protobuf.dev: field 1 = 150; field 2 = "testing"; a message as field 3.
        assert_eq!(Message::default().int(1, 150).into_bytes(), [0x08, 0x96, 0x01]);
        assert_eq!(Message::default().bytes(2, "testing").into_bytes(), *b"\x12\x07testing");
        let inner = Message::default().int(1, 150);
        assert_eq!(Message::default().message(3, inner).into_bytes(), [0x1a, 0x03, 0x08, 0x96, 0x01]);
        assert_eq!(Message::default().int(1, -1).into_bytes(), *b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01");
    }
}
