import NIOCore

/// A broken rule of RFC 6455, with the code to close with.
public struct WebSocketError: Error, Equatable, Sendable {
    public let code: CloseCode
    public let reason: String

    init(_ code: CloseCode, _ reason: String) {
        self.code = code
        self.reason = reason
    }

    static func protocolError(_ reason: String) -> WebSocketError { WebSocketError(.protocolError, reason) }
}

/// What a peer said, after fragments were put together.
public enum WebSocketMessage: Equatable, Sendable {
    /// UTF-8 that has been checked.
    case text(ByteBuffer)
    case binary(ByteBuffer)
    case ping(ByteBuffer)
    case pong(ByteBuffer)
    /// `code` is `nil` for a Close frame without a payload.
    case close(code: CloseCode?, reason: String)
}

/// Reads WebSocket frames (RFC 6455 §5), sans-IO: feed bytes with ``append(_:)``, take messages with ``next()`` until it
/// answers `nil`.
///
/// Why not NIOWebSocket's decoder: it leaves reserved bits and opcodes, the order of fragments, UTF-8, close codes and
/// the size of a message to its user, and costs a handler and a buffer per connection. What would remain to be written
/// is most of this file.
///
/// An idle connection holds no buffer: bytes are kept only while a frame or a fragmented message is incomplete.
/// After an error or a Close frame the parser reads nothing more.
public struct WebSocketParser: Sendable {
    public enum Role: Sendable {
        /// Frames from clients must be masked.
        case server
        /// Frames from servers must not be masked (§5.1).
        case client
    }

    public let role: Role
    /// Most payload bytes of one frame.
    public let maxFrameBytes: Int
    /// Most payload bytes of one message, all fragments together.
    public let maxMessageBytes: Int

    private var input = ByteBuffer()
    /// `input` is our own memory and nobody else's: bytes can be appended without copying those that are there.
    private var ownsInput = false
    private var fragments: Fragments?
    private var isFinished = false

    /// A message of which some fragments have come.
    private struct Fragments {
        let isText: Bool
        var payload: ByteBuffer
        var validator: UTF8Validator
    }

    private struct Header {
        var isFinal: Bool
        var opcode: WebSocketOpcode
        var length: Int
        var mask: UInt32
        /// Bytes of the header itself.
        var bytes: Int
    }

    public init(role: Role, maxFrameBytes: Int = 1 << 20, maxMessageBytes: Int = 1 << 20) {
        self.role = role
        self.maxFrameBytes = maxFrameBytes
        self.maxMessageBytes = maxMessageBytes
    }

    /// Bytes held for frames that are not complete.
    public var bufferedBytes: Int { self.input.readableBytes + (self.fragments?.payload.readableBytes ?? 0) }

    /// Hands over bytes from the network.
    public mutating func append(_ bytes: ByteBuffer) {
        guard !self.isFinished, bytes.readableBytes > 0 else { return }
        if self.input.readableBytes == 0 {
            // Takes the buffer over instead of copying it; nearly always it holds whole frames and is let go at once.
            self.input = bytes
            self.ownsInput = false
        } else {
            self.input.writeImmutableBuffer(bytes)
        }
    }

    /// The next message, or `nil` if more bytes are needed.
    public mutating func next() throws(WebSocketError) -> WebSocketMessage? {
        guard !self.isFinished else { return nil }
        do throws(WebSocketError) {
            while true {
                guard let header = try self.readHeader() else {
                    self.letGoOfReceiveBuffer()
                    break
                }
                guard self.input.readableBytes >= header.bytes + header.length else {
                    self.makeRoom(for: header)
                    break
                }
                self.input.moveReaderIndex(forwardBy: header.bytes)
                // Cannot fail: the length has been compared with the readable bytes above.
                var payload = self.input.readSlice(length: header.length) ?? ByteBuffer()
                self.ownsInput = false
                if self.input.readableBytes == 0 { self.input = ByteBuffer() }
                payload.applyMask(header.mask, from: payload.readerIndex)
                if let message = try self.take(header, payload) { return message }
            }
            return nil
        } catch {
            self.isFinished = true
            self.input = ByteBuffer()
            self.fragments = nil
            throw error
        }
    }

    /// The network's buffer has room for much more than the part of a header that may be in it: an idle connection must not
    /// keep it.
    private mutating func letGoOfReceiveBuffer() {
        guard !self.ownsInput else { return }
        self.input = self.input.readableBytes == 0 ? ByteBuffer() : ByteBuffer(bytes: self.input.readableBytesView)
        self.ownsInput = self.input.readableBytes > 0
    }

    /// Reads the header without moving on, and checks all that it alone can break (§5.2), the length as soon as it is known.
    private func readHeader() throws(WebSocketError) -> Header? {
        let start = self.input.readerIndex
        guard let first = self.input.getInteger(at: start, as: UInt8.self),
            self.input.readableBytes >= 1
        else { return nil }
        guard first & 0x70 == 0 else { throw .protocolError("a reserved bit is set and no extension was agreed") }
        guard let opcode = WebSocketOpcode(rawValue: first & 0x0F) else {
            throw .protocolError("reserved opcode \(first & 0x0F)")
        }
        let isFinal = first & 0x80 != 0
        switch opcode {
        case .continuation:
            guard self.fragments != nil else { throw .protocolError("a continuation without a message to continue") }
        case .text, .binary:
            guard self.fragments == nil else { throw .protocolError("a new message inside a fragmented one") }
        case .close, .ping, .pong:
            guard isFinal else { throw .protocolError("a fragmented control frame") }
        }
        guard self.input.readableBytes >= 2, let second = self.input.getInteger(at: start + 1, as: UInt8.self) else {
            return nil
        }
        let isMasked = second & 0x80 != 0
        switch self.role {
        case .server: guard isMasked else { throw .protocolError("a client's frame must be masked") }
        case .client: guard !isMasked else { throw .protocolError("a server's frame must not be masked") }
        }
        var bytes = 2
        var length = Int(second & 0x7F)
        if opcode.isControl {
            guard length <= 125 else { throw .protocolError("a control frame of more than 125 bytes") }
        } else if length == 126 {
            guard self.input.readableBytes >= 4, let long = self.input.getInteger(at: start + 2, as: UInt16.self) else {
                return nil
            }
            guard long > 125 else { throw .protocolError("a length not in its shortest form") }
            length = Int(long)
            bytes += 2
        } else if length == 127 {
            guard self.input.readableBytes >= 10, let long = self.input.getInteger(at: start + 2, as: UInt64.self)
            else { return nil }
            guard long <= UInt64(Int64.max) else { throw .protocolError("a length with its highest bit set") }
            guard long > 0xFFFF else { throw .protocolError("a length not in its shortest form") }
            length = Int(long)
            bytes += 8
        }
        if !opcode.isControl {
            guard length <= self.maxFrameBytes else {
                throw WebSocketError(.messageTooBig, "frame of \(length) bytes, the limit is \(self.maxFrameBytes)")
            }
            let message = length + (self.fragments?.payload.readableBytes ?? 0)
            guard message <= self.maxMessageBytes else {
                throw WebSocketError(
                    .messageTooBig, "message of \(message) bytes, the limit is \(self.maxMessageBytes)")
            }
        }
        var mask: UInt32 = 0
        if isMasked {
            guard self.input.readableBytes >= bytes + 4,
                let key = self.input.getInteger(at: start + bytes, as: UInt32.self)
            else { return nil }
            mask = key
            bytes += 4
        }
        return Header(isFinal: isFinal, opcode: opcode, length: length, mask: mask, bytes: bytes)
    }

    /// Compacts an incomplete frame into a buffer of its own, so that a large receive buffer is not kept for a few bytes. Once
    /// only: from then on it grows by doubling, else a frame that comes in small pieces would be copied with each of them.
    private mutating func makeRoom(for header: Header) {
        let needed = header.bytes + header.length
        guard !self.ownsInput, self.input.readableBytes > 0,
            self.input.capacity < needed || self.input.readerIndex > needed
        else { return }
        // Grows with what arrives, not with what the header announces: a peer must send bytes to make us hold them.
        var own = ByteBufferAllocator().buffer(capacity: min(needed, max(2 * self.input.readableBytes, 512)))
        own.writeImmutableBuffer(self.input)
        self.input = own
        self.ownsInput = true
    }

    private mutating func take(_ header: Header, _ payload: ByteBuffer) throws(WebSocketError) -> WebSocketMessage? {
        switch header.opcode {
        case .ping: return .ping(payload)
        case .pong: return .pong(payload)
        case .close:
            self.isFinished = true
            // What came behind it is never read.
            self.input = ByteBuffer()
            self.fragments = nil
            return try Self.close(payload)
        case .text, .binary:
            let isText = header.opcode == .text
            var validator = UTF8Validator()
            if isText { try Self.check(payload, &validator, isFinal: header.isFinal) }
            guard header.isFinal else {
                self.fragments = Fragments(isText: isText, payload: payload, validator: validator)
                return nil
            }
            return isText ? .text(payload) : .binary(payload)
        case .continuation:
            // The header was refused if there is nothing to continue.
            guard var fragments = self.fragments else { return nil }
            self.fragments = nil
            if fragments.isText { try Self.check(payload, &fragments.validator, isFinal: header.isFinal) }
            fragments.payload.writeImmutableBuffer(payload)
            guard header.isFinal else {
                self.fragments = fragments
                return nil
            }
            return fragments.isText ? .text(fragments.payload) : .binary(fragments.payload)
        }
    }

    private static func check(
        _ payload: ByteBuffer,
        _ validator: inout UTF8Validator,
        isFinal: Bool
    ) throws(WebSocketError) {
        let isValid = payload.withUnsafeReadableBytes { validator.consume($0) }
        guard isValid, !isFinal || validator.isAtBoundary else {
            throw WebSocketError(.invalidPayload, "invalid UTF-8 in a text message")
        }
    }

    /// §5.5.1 and §7.4.
    private static func close(_ payload: ByteBuffer) throws(WebSocketError) -> WebSocketMessage {
        var payload = payload
        guard payload.readableBytes > 0 else { return .close(code: nil, reason: "") }
        guard let code = payload.readInteger(as: UInt16.self) else { throw .protocolError("a close code of one byte") }
        guard CloseCode.isValidOnWire(code) else { throw .protocolError("close code \(code) must not be sent") }
        var validator = UTF8Validator()
        try Self.check(payload, &validator, isFinal: true)
        return .close(code: CloseCode(rawValue: code), reason: String(buffer: payload))
    }
}
