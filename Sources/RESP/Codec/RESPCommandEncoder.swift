import NIOCore

/// One argument of a command. Servers take any bytes.
public enum RESPArgument: Hashable, Sendable, ExpressibleByStringInterpolation {
    case string(String)
    case bytes(ByteBuffer)

    public init(stringLiteral value: String) { self = .string(value) }

    public init(_ string: String) { self = .string(string) }

    public init(_ bytes: ByteBuffer) { self = .bytes(bytes) }

    public init(_ number: some BinaryInteger) { self = .string("\(number)") }

    var byteCount: Int {
        switch self {
        case .string(let string): string.utf8.count
        case .bytes(let bytes): bytes.readableBytes
        }
    }
}

/// Writes commands: an array of bulk strings, the only form in which a server takes arguments of any bytes
/// (RESP documentation, "Sending commands to a Redis server").
public enum RESPCommandEncoder {
    /// Appends one command to the buffer.
    public static func encode(
        _ command: String,
        _ arguments: some Collection<RESPArgument>,
        into buffer: inout ByteBuffer
    ) {
        buffer.writeHeader(UInt8(ascii: "*"), arguments.count + 1)
        buffer.writeHeader(UInt8(ascii: "$"), command.utf8.count)
        buffer.writeString(command)
        buffer.writeCRLF()
        for argument in arguments {
            buffer.writeHeader(UInt8(ascii: "$"), argument.byteCount)
            switch argument {
            case .string(let string): buffer.writeString(string)
            case .bytes(let bytes): buffer.writeImmutableBuffer(bytes)
            }
            buffer.writeCRLF()
        }
    }

    /// At least the bytes that ``encode(_:_:into:)`` writes, for the limit on what may wait.
    static func estimate(_ command: String, _ arguments: some Collection<RESPArgument>) -> Int {
        // A header has at most 1 + 20 + 2 bytes, a payload 2 behind it.
        arguments.reduce(48 + command.utf8.count) { $0 + $1.byteCount + 25 }
    }
}

extension ByteBuffer {
    fileprivate mutating func writeCRLF() {
        self.writeInteger(0x0D0A as UInt16)
    }

    fileprivate mutating func writeHeader(_ type: UInt8, _ count: Int) {
        self.writeInteger(type)
        if count < 10 {
            self.writeInteger(UInt8(ascii: "0") + UInt8(truncatingIfNeeded: count))
        } else {
            self.writeString(String(count))
        }
        self.writeCRLF()
    }
}
