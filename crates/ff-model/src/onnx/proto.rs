//! As much of protobuf's encoding as an ONNX file needs: fields of a message, one after another.
//!
//! A field is its number and wire type as a varint, then a varint (type 0), a length and bytes (2) or four bytes (5).

const VARINT: u32 = 0;
const BYTES: u32 = 2;
const FOUR_BYTES: u32 = 5;

/// A message in the making.
#[derive(Debug, Clone, Default)]
pub(super) struct Message(Vec<u8>);

impl Message {
    pub(super) fn int(&mut self, field: u32, value: u64) {
        self.key(field, VARINT);
        self.varint(value);
    }

    pub(super) fn float(&mut self, field: u32, value: f32) {
        self.key(field, FOUR_BYTES);
        self.0.extend(value.to_le_bytes());
    }

    pub(super) fn bytes(&mut self, field: u32, value: &[u8]) {
        self.key(field, BYTES);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    pub(super) fn text(&mut self, field: u32, value: &str) {
        self.bytes(field, value.as_bytes());
    }

    pub(super) fn message(&mut self, field: u32, value: &Message) {
        self.bytes(field, &value.0);
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn key(&mut self, field: u32, wire_type: u32) {
        self.varint(u64::from(field << 3 | wire_type));
    }

    /// Seven bits a byte, the lowest first; the top bit says that more follow.
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

    /// The examples of protobuf's own description of its encoding.
    #[test]
    fn fields_are_encoded_as_protobuf_describes() {
        let mut inner = Message::default();
        inner.int(1, 150);
        assert_eq!(inner.0, [0x08, 0x96, 0x01]);
        let mut outer = Message::default();
        outer.text(2, "testing");
        outer.message(3, &inner);
        assert_eq!(
            outer.0,
            [0x12, 0x07, 0x74, 0x65, 0x73, 0x74, 0x69, 0x6e, 0x67, 0x1a, 0x03, 0x08, 0x96, 0x01]
        );
        let mut float = Message::default();
        float.float(16, 1.0);
        assert_eq!(float.0, [0x85, 0x01, 0, 0, 0x80, 0x3f]);
    }
}
