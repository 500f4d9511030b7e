//! Netlink messages and attributes as bytes, there and back (RFC 3549, section 2.3; linux/netlink.h, linux/netfilter/nfnetlink.h).

/// Bytes of an attribute's header (`struct nlattr`): length and type.
const ATTRIBUTE_HEADER_BYTES: usize = 4;
/// Bytes of `struct nlmsghdr` and `struct nfgenmsg`.
const HEADERS_BYTES: usize = 20;
/// Bytes of `struct nfgenmsg`: family, version, resource.
const NFGENMSG_BYTES: usize = 4;
const NLA_F_NESTED: u16 = 1 << 15;
/// `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER` are not part of the type.
const NLA_TYPE_MASK: u16 = 0x3fff;

/// Attributes in the order in which they were added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes(Vec<u8>);

impl Attributes {
    /// Bytes as they are.
    pub(super) fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(ATTRIBUTE_HEADER_BYTES + value.len()).unwrap_or(u16::MAX);
        debug_assert_ne!(length, u16::MAX, "Weft's attributes are a few hundred bytes");
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// A string, ended by a NUL.
    pub(super) fn text(self, kind: u16, value: &str) -> Self {
        self.bytes(kind, &[value.as_bytes(), &[0]].concat())
    }

    /// A number in network order, as nf_tables has all of them.
    pub(super) fn number(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Attributes within an attribute.
    pub(super) fn nested(self, kind: u16, value: &Self) -> Self {
        self.bytes(kind | NLA_F_NESTED, &value.0)
    }

    /// The bytes.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A message of nfnetlink: headers, then attributes. `flags` are `NLM_F_…`.
pub(super) fn message(
    kind: u16,
    flags: u16,
    sequence: u32,
    family: u8,
    resource: u16,
    attributes: &Attributes,
) -> Vec<u8> {
    let length = u32::try_from(HEADERS_BYTES + attributes.0.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(HEADERS_BYTES + attributes.0.len());
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    // port 0: the kernel knows the sender
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend([family, 0]);
    bytes.extend(resource.to_be_bytes());
    bytes.extend(&attributes.0);
    bytes
}

/// The attributes of a message's payload (behind `struct nfgenmsg`).
pub(super) fn payload_attributes(payload: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    attributes(payload.get(NFGENMSG_BYTES..).unwrap_or_default())
}

/// Type and value of each attribute; ends at the first one whose length lies.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (header, rest) = bytes.split_first_chunk::<ATTRIBUTE_HEADER_BYTES>()?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & NLA_TYPE_MASK;
        let value = rest.get(..length.checked_sub(ATTRIBUTE_HEADER_BYTES)?)?;
        bytes = rest.get(value.len().next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of the first attribute of this type.
pub(super) fn find<'a>(attributes: impl Iterator<Item = (u16, &'a [u8])>, kind: u16) -> Option<&'a [u8]> {
    attributes
        .into_iter()
        .find(|(found, _)| *found == kind)
        .map(|(_, value)| value)
}

/// A string without its NUL.
pub(super) fn as_text(value: &[u8]) -> &[u8] {
    value.strip_suffix(&[0]).unwrap_or(value)
}

/// A number in network order.
pub(super) fn as_number(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_to_words_and_their_lengths_are_not() {
        let length = |bytes: u16| bytes.to_ne_bytes();
        let text = Attributes::default().text(1, "weft");
        assert_eq!(
            text.as_bytes(),
            [&length(9)[..], &length(1), b"weft\0", &[0; 3]].concat()
        );
        let number = Attributes::default().number(2, 0x0102_0304);
        assert_eq!(number.as_bytes(), [&length(8)[..], &length(2), &[1, 2, 3, 4]].concat());
        let nested = Attributes::default().nested(3, &number);
        assert_eq!(
            nested.as_bytes(),
            [&length(12)[..], &length(0x8003), number.as_bytes()].concat()
        );
        let empty = Attributes::default().bytes(4, &[]);
        assert_eq!(empty.as_bytes(), [length(4), length(4)].concat());
    }

    #[test]
    fn a_message_counts_its_headers() {
        let bytes = message(0x0a00, 5, 7, 1, 10, &Attributes::default().number(2, 1));
        assert_eq!(bytes.len(), 28);
        assert_eq!(bytes[..4], 28u32.to_ne_bytes());
        assert_eq!(bytes[4..6], 0x0a00u16.to_ne_bytes());
        assert_eq!(bytes[6..8], 5u16.to_ne_bytes());
        assert_eq!(bytes[8..12], 7u32.to_ne_bytes());
        assert_eq!(
            bytes[16..20],
            [1, 0, 0, 10],
            "family, version, resource in network order"
        );
    }

    #[test]
    fn what_was_written_is_read_back() {
        let inner = Attributes::default().number(1, 5);
        let written = Attributes::default().text(1, "raw").nested(2, &inner).bytes(3, &[9]);
        let read: Vec<_> = attributes(written.as_bytes()).collect();
        assert_eq!(read, [(1, &b"raw\0"[..]), (2, inner.as_bytes()), (3, &[9][..])]);
        assert_eq!(as_text(read[0].1), b"raw");
        assert_eq!(find(attributes(read[1].1), 1).and_then(as_number), Some(5));
    }

    #[test]
    fn a_length_that_lies_ends_the_list() {
        for bytes in [&[3u8, 0, 1, 0][..], &[9, 0, 1, 0, 1], &[4, 0, 1]] {
            assert_eq!(attributes(bytes).count(), 0, "{bytes:?}");
        }
    }
}
