import HoldfastProtocol
import NIOCore

/// Something that no client would say, and that has to be answered with an error.
struct MalformedInput: Sendable {
    let name: String
    /// Behind the handshake of a WebSocket; else in its place.
    let isFrame: Bool
    let bytes: ByteBuffer

    /// Seconds that the gateway has to answer.
    private static let deadline = 12.0

    /// Whether the gateway answers with an error: a reply, a Close with a code that says so, or a status.
    func isAnswered(port: Int) async throws -> Bool {
        let connection =
            self.isFrame ? try await RawConnection.webSocket(port: port) : try await RawConnection.open(port: port)
        let start = connection.received.readableBytes
        await connection.send(self.bytes)
        let isAnswered = try await connection.wait(seconds: Self.deadline) { received in
            var answer = received
            answer.moveReaderIndex(forwardBy: start)
            return self.isFrame ? Self.isError(frames: answer) : String(buffer: answer).hasPrefix("HTTP/1.1 4")
        }
        await connection.close()
        return isAnswered
    }

    /// Errors in Close: protocol, unsupported, invalid, policy, too big; and the gateway's own from 4000 on.
    private static let errorCodes: Set<UInt16> = [1002, 1003, 1007, 1008, 1009]

    private static func isError(frames: ByteBuffer) -> Bool {
        var frames = frames
        while let head = frames.readInteger(as: UInt16.self) {
            var length = Int(head & 0x7F)
            if length == 126 { length = frames.readInteger(as: UInt16.self).map(Int.init) ?? .max }
            guard length < 126 || head & 0x7F == 126, let payload = frames.readSlice(length: length) else {
                return false
            }
            if head >> 8 & 0xF == 8 {
                guard let code = payload.getInteger(at: payload.readerIndex, as: UInt16.self) else { return false }
                return Self.errorCodes.contains(code) || code >= 4000
            }
            if String(buffer: payload).contains("\"status\":\"error\"") { return true }
        }
        return false
    }

    // MARK: What is said

    static let all: [MalformedInput] = Self.json + Self.frames + Self.requests

    private static func text(_ name: String, _ text: String) -> MalformedInput {
        MalformedInput(name: name, isFrame: true, bytes: RawConnection.text(text))
    }

    private static func frame(_ name: String, _ bytes: [UInt8]) -> MalformedInput {
        MalformedInput(name: name, isFrame: true, bytes: ByteBuffer(bytes: bytes))
    }

    private static func request(_ name: String, _ text: String) -> MalformedInput {
        MalformedInput(name: name, isFrame: false, bytes: ByteBuffer(string: text))
    }

    private static let json: [MalformedInput] = [
        .text("no JSON", "hello there"),
        .text("empty text", ""),
        .text("half an object", "{\"event\":\"subscribe\""),
        .text("an array", "[1,2,3]"),
        .text("no event", "{\"subscription\":\"a.b\"}"),
        .text("an event that is a number", "{\"event\":17}"),
        .text("an unknown event", "{\"event\":\"explode\"}"),
        .text("a subscription that is no string", "{\"event\":\"subscribe\",\"subscription\":17}"),
        .text("a subscription without a dot", "{\"event\":\"subscribe\",\"subscription\":\"nodot\"}"),
        .text("NaN", "{\"event\":\"subscribe\",\"subscription\":NaN}"),
        .text("a huge integer", "{\"event\":\"subscribe\",\"subscription\":1\(String(repeating: "0", count: 4000))}"),
        .text("an infinite number", "{\"event\":\"hello\",\"version\":1e999}"),
        .text(
            "deep nesting",
            "{\"event\":\"message\",\"subscription\":\"a.b\",\"data\":\(String(repeating: "[", count: 50_000))"),
        .text(
            "a long name", "{\"event\":\"subscribe\",\"subscription\":\"a.\(String(repeating: "x", count: 60_000))\"}"),
    ]

    private static let frames: [MalformedInput] = [
        .frame("an unmasked frame", [0x81, 0x02, 0x7B, 0x7D]),
        .frame("a reserved bit", [0xC1, 0x80, 1, 2, 3, 4]),
        .frame("a reserved opcode", [0x83, 0x80, 1, 2, 3, 4]),
        .frame("a fragmented ping", [0x09, 0x80, 1, 2, 3, 4]),
        .frame("a ping of 126 bytes", [0x89, 0xFE, 0x00, 0x7E, 1, 2, 3, 4]),
        .frame("a continuation of nothing", [0x80, 0x80, 1, 2, 3, 4]),
        .frame("a message within a message", [0x01, 0x80, 1, 2, 3, 4, 0x81, 0x80, 1, 2, 3, 4]),
        .frame("a frame of 2^63 - 1 bytes", [0x81, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 2, 3, 4]),
        .frame("a binary message", [0x82, 0x81, 0, 0, 0, 0, 0x41]),
        .frame("text that is no UTF-8", [0x81, 0x82, 0, 0, 0, 0, 0xC3, 0x28]),
        .frame("a Close with a reserved code", [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xED]),
    ]

    private static let requests: [MalformedInput] = [
        .request("no HTTP", "\u{1}\u{2}\u{3}\u{4}\r\n\r\n"),
        .request(
            "two lengths",
            "POST /api/publish HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc"),
        .request("a negative length", "POST /api/publish HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n"),
        .request(
            "an endless head", "GET / HTTP/1.1\r\nHost: x\r\nX: \(String(repeating: "x", count: 200_000))\r\n\r\n"),
        .request(
            "an upgrade without a key",
            "GET /socket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                + "Sec-WebSocket-Version: 13\r\n\r\n"
        ),
        .request(
            "a publication that is no JSON", "POST /api/publish HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n{{{{"),
    ]
}

/// One good frame, sent in two pieces that are divided at each of its bytes, and as its beginning alone.
enum CutFrames {
    static func run(port: Int, subscription: String) async throws -> (understood: Int, pieces: Int) {
        let frame = RawConnection.text("{\"event\":\"subscribe\",\"subscription\":\"\(subscription)\"}")
        var understood = 0
        let divisions = 1..<frame.readableBytes
        for division in divisions {
            guard let first = frame.getSlice(at: frame.readerIndex, length: division) else { continue }
            var rest = frame
            rest.moveReaderIndex(forwardBy: division)
            let beginning = try await RawConnection.webSocket(port: port)
            await beginning.send(first)
            await beginning.close()
            let whole = try await RawConnection.webSocket(port: port)
            await whole.send(first)
            await whole.send(rest)
            if try await whole.wait(seconds: 5, for: { String(buffer: $0).contains("\"status\":\"ok\"") }) {
                understood += 1
            }
            await whole.close()
        }
        return (understood, divisions.count)
    }
}
