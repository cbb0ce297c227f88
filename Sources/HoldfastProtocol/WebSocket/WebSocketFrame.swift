import NIOCore

/// RFC 6455 §5.2 opcodes that are in use.
public enum WebSocketOpcode: UInt8, Sendable, CaseIterable {
    case continuation = 0x0
    case text = 0x1
    case binary = 0x2
    case close = 0x8
    case ping = 0x9
    case pong = 0xA

    /// Control frames may not be fragmented and carry at most 125 bytes (§5.5).
    public var isControl: Bool { self.rawValue & 0x8 != 0 }
}

/// Writes frames. Fragmentation is never needed for sending: every event is one frame.
public enum WebSocketFrame {
    /// Longest header of an unmasked frame, in bytes.
    public static let maxHeaderBytes = 10

    /// Appends a whole unmasked frame, as a server sends it (§5.1).
    public static func write(_ opcode: WebSocketOpcode, _ payload: ByteBuffer, into buffer: inout ByteBuffer) {
        Self.writeHeader(opcode, length: payload.readableBytes, mask: nil, into: &buffer)
        buffer.writeImmutableBuffer(payload)
    }

    /// A whole unmasked frame in a buffer of its own, exactly as large as needed.
    public static func unmasked(_ opcode: WebSocketOpcode, _ payload: ByteBuffer = ByteBuffer()) -> ByteBuffer {
        var buffer = ByteBufferAllocator().buffer(capacity: payload.readableBytes + Self.maxHeaderBytes)
        Self.write(opcode, payload, into: &buffer)
        return buffer
    }

    /// A whole masked frame, as a client sends it. `mask` must be unpredictable (§5.3).
    public static func masked(_ opcode: WebSocketOpcode, _ payload: ByteBuffer, mask: UInt32) -> ByteBuffer {
        var buffer = ByteBufferAllocator().buffer(capacity: payload.readableBytes + Self.maxHeaderBytes + 4)
        Self.writeHeader(opcode, length: payload.readableBytes, mask: mask, into: &buffer)
        let start = buffer.writerIndex
        buffer.writeImmutableBuffer(payload)
        buffer.applyMask(mask, from: start)
        return buffer
    }

    /// Payload of a Close frame: the code, then the reason cut to what fits (123 bytes, at a code point).
    public static func closePayload(_ code: CloseCode, reason: String) -> ByteBuffer {
        var payload = ByteBuffer()
        payload.writeInteger(code.rawValue)
        var room = 123
        for scalar in reason.unicodeScalars {
            let length = UTF8.width(scalar)
            guard length <= room else { break }
            room -= length
            payload.writeString(String(scalar))
        }
        return payload
    }

    private static func writeHeader(
        _ opcode: WebSocketOpcode,
        length: Int,
        mask: UInt32?,
        into buffer: inout ByteBuffer
    ) {
        let maskBit: UInt8 = mask == nil ? 0 : 0x80
        buffer.writeInteger(0x80 | opcode.rawValue)
        switch length {
        case ...125:
            buffer.writeInteger(maskBit | UInt8(length))
        case ...0xFFFF:
            buffer.writeInteger(maskBit | 126)
            buffer.writeInteger(UInt16(length))
        default:
            buffer.writeInteger(maskBit | 127)
            buffer.writeInteger(UInt64(length))
        }
        if let mask { buffer.writeInteger(mask) }
    }
}

extension ByteBuffer {
    /// XORs everything from `start` to the writer index with the mask (§5.3), eight bytes at a time.
    mutating func applyMask(_ mask: UInt32, from start: Int) {
        guard mask != 0 else { return }
        let offset = start - self.readerIndex
        self.withUnsafeMutableReadableBytes { bytes in
            let region = UnsafeMutableRawBufferPointer(rebasing: bytes[offset...])
            let word = UInt64(mask.bigEndian) | UInt64(mask.bigEndian) << 32
            var index = 0
            while index + 8 <= region.count {
                let value = region.loadUnaligned(fromByteOffset: index, as: UInt64.self)
                region.storeBytes(of: value ^ word, toByteOffset: index, as: UInt64.self)
                index += 8
            }
            while index < region.count {
                region[index] ^= UInt8(truncatingIfNeeded: word >> UInt64((index % 8) * 8))
                index += 1
            }
        }
    }
}
