import NIOCore

@testable import HoldfastProtocol

extension FuzzTarget {
    static let framesServer = Self.frames(
        "frames-server", .server, "WebSocket frames of clients: however cut, bounds, a second decoder, round trip")
    static let framesClient = Self.frames(
        "frames-client", .client, "WebSocket frames of servers: the same")

    private static func frames(_ name: String, _ role: WebSocketParser.Role, _ about: String) -> FuzzTarget {
        FuzzTarget(name: name, about: about, maxBytes: 1024) { bytes in
            // So small that inputs reach them, and the defaults.
            for limits in [(frame: 40, message: 60), (frame: 1 << 20, message: 1 << 20)] {
                FrameCheck(role: role, frame: limits.frame, message: limits.message).run(bytes)
            }
        }
    }
}

private struct FrameCheck {
    let role: WebSocketParser.Role
    let frame: Int
    let message: Int

    struct Reading: Equatable {
        var messages: [WebSocketMessage] = []
        var error: WebSocketError?
    }

    private func makeParser() -> WebSocketParser {
        WebSocketParser(role: self.role, maxFrameBytes: self.frame, maxMessageBytes: self.message)
    }

    func run(_ bytes: [UInt8]) {
        let reading = Cut.requireSame(bytes, "frames", read: self.read)
        for message in reading.messages { self.check(message) }
        if let error = reading.error { self.check(error) }
        var reference = ReferenceFrames(bytes, isMasked: self.role == .server, frame: self.frame, message: self.message)
        reference.run()
        requireSame(reading.messages, reference.messages, "the messages and those of the second decoder")
        require(
            !reference.isBroken || reading.error != nil, "the second decoder has found a broken rule, the parser none")
        require(
            reading.error == nil || reference.isBroken || reference.isIncomplete,
            "the parser says \(reading.error?.reason ?? ""), the second decoder finds nothing wrong")
        self.writeAgain(reading.messages)
    }

    private func read(_ pieces: [ByteBuffer]) -> Reading {
        var parser = self.makeParser()
        var reading = Reading()
        var fed = 0
        for piece in pieces {
            parser.append(piece)
            fed += piece.readableBytes
            do throws(WebSocketError) {
                while let message = try parser.next() { reading.messages.append(message) }
            } catch {
                reading.error = reading.error ?? error
                require(parser.bufferedBytes == 0, "bytes are kept after an error")
            }
            require(parser.bufferedBytes <= fed, "more bytes are kept than came")
            // The message so far, and a frame that is not complete; a control frame may have 125 bytes.
            let most = self.message + max(self.frame, 125) + 14
            require(parser.bufferedBytes <= most, "\(parser.bufferedBytes) bytes are kept, with room for \(most)")
        }
        return reading
    }

    private func check(_ message: WebSocketMessage) {
        switch message {
        case .text(let payload):
            require(String(validating: payload.readableBytesView, as: UTF8.self) != nil, "a text that is not UTF-8")
            require(payload.readableBytes <= self.message, "a text over the limit")
        case .binary(let payload): require(payload.readableBytes <= self.message, "a binary message over the limit")
        case .ping(let payload), .pong(let payload): require(payload.readableBytes <= 125, "a long control frame")
        case .close(let code, let reason):
            require(code.map { CloseCode.isValidOnWire($0.rawValue) } ?? reason.isEmpty, "a close code that cannot be")
            require(reason.utf8.count <= 123, "a long reason")
        }
    }

    private func check(_ error: WebSocketError) {
        require(!error.reason.isEmpty, "an error without a reason")
        require(CloseCode.isValidOnWire(error.code.rawValue), "an error whose code cannot be sent")
        guard error.code == .messageTooBig else { return }
        require(
            error.reason.hasSuffix("the limit is \(self.frame)")
                || error.reason.hasSuffix("the limit is \(self.message)"),
            "an error that does not name the limit: \(error.reason)")
    }

    /// What was read goes out again as our own frames and comes back the same.
    private func writeAgain(_ messages: [WebSocketMessage]) {
        var bytes = ByteBuffer()
        for message in messages {
            switch message {
            case .text(let payload): bytes.writeImmutableBuffer(self.write(.text, payload))
            case .binary(let payload): bytes.writeImmutableBuffer(self.write(.binary, payload))
            case .ping(let payload): bytes.writeImmutableBuffer(self.write(.ping, payload))
            case .pong(let payload): bytes.writeImmutableBuffer(self.write(.pong, payload))
            case .close(let code, let reason):
                let payload = code.map { WebSocketFrame.closePayload($0, reason: reason) } ?? ByteBuffer()
                bytes.writeImmutableBuffer(self.write(.close, payload))
            }
        }
        let reading = FrameCheck(role: self.role, frame: self.message, message: self.message).read([bytes])
        requireSame(reading, Reading(messages: messages), "what was written again")
    }

    private func write(_ opcode: WebSocketOpcode, _ payload: ByteBuffer) -> ByteBuffer {
        switch self.role {
        case .server: WebSocketFrame.masked(opcode, payload, mask: 0x9E37_79B9)
        case .client: WebSocketFrame.unmasked(opcode, payload)
        }
    }
}
