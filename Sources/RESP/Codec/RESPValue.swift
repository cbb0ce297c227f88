import NIOCore

/// One value of RESP2 or RESP3 (names as in valkey-swift's `RESPToken.Value`).
///
/// Payloads are slices of what came from the network: who keeps one for long should copy it, else the whole receive
/// buffer (up to 64 KiB, or the size of the bulk) stays alive with it. Attributes (`|`) are read over.
///
/// Source: RESP3 specification (github.com/redis/redis-specifications, protocol/RESP3.md) and the RESP2 documentation
/// (redis.io/docs/latest/develop/reference/protocol-spec).
public enum RESPValue: Hashable, Sendable {
    /// `+OK`
    case simpleString(ByteBuffer)
    /// `-ERR message`
    case simpleError(ByteBuffer)
    /// `$`
    case bulkString(ByteBuffer)
    /// `!`
    case bulkError(ByteBuffer)
    /// `=`, without the format in front (`txt:`, `mkd:`).
    case verbatimString(ByteBuffer)
    /// `:`
    case number(Int64)
    /// `,`
    case double(Double)
    /// `#`
    case boolean(Bool)
    /// `(`: an optional sign and digits.
    case bigNumber(ByteBuffer)
    /// `_`, and RESP2's `$-1` and `*-1`.
    case null
    /// `*`
    case array([RESPValue])
    /// `%`
    case map([Pair])
    /// `~`, in the order in which it came.
    case set([RESPValue])
    /// `>`: not an answer to a command. Never inside another value.
    case push([RESPValue])

    /// An entry of a map.
    public struct Pair: Hashable, Sendable {
        public let key: RESPValue
        public let value: RESPValue

        public init(key: RESPValue, value: RESPValue) {
            self.key = key
            self.value = value
        }
    }

    /// The payload of any of the strings; `nil` for everything else, errors too.
    public var bytes: ByteBuffer? {
        switch self {
        case .simpleString(let bytes), .bulkString(let bytes), .verbatimString(let bytes): bytes
        case .simpleError, .bulkError, .number, .double, .boolean, .bigNumber, .null, .array, .map, .set, .push: nil
        }
    }

    /// The payload of any of the strings, invalid UTF-8 repaired; `nil` for everything else.
    public var string: String? { self.bytes.map { String(buffer: $0) } }

    /// The integer; `nil` for everything else.
    public var integer: Int64? { if case .number(let number) = self { number } else { nil } }

    /// The message of an error reply; `nil` for everything else.
    var errorMessage: String? {
        switch self {
        case .simpleError(let message), .bulkError(let message): String(buffer: message)
        case .simpleString, .bulkString, .verbatimString, .number, .double, .boolean, .bigNumber, .null, .array, .map,
            .set, .push:
            nil
        }
    }
}
