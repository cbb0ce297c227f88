import NIOCore
import TestSupport

@testable import HoldfastProtocol

/// One case: a random conversation, as it is or mutated, fed to a parser in several ways.
struct FrameMutation {
    /// What went wrong, with the bytes to repeat it.
    struct Failure: Error, CustomStringConvertible {
        let what: String
        let bytes: [UInt8]
        var description: String { "\(self.what): \(self.bytes.map { String($0, radix: 16) }.joined(separator: " "))" }
    }

    var cases = 0
    var refused = 0
    var messages = 0
    var generator: SeededGenerator

    init(seed: UInt64) { self.generator = SeededGenerator(seed: seed) }

    static func limited() -> WebSocketParser {
        WebSocketParser(role: .server, maxFrameBytes: 400, maxMessageBytes: 600)
    }

    mutating func run(_ makeParser: () -> some FrameParsing) throws(Failure) {
        self.cases += 1
        let (frames, expected) = self.conversation()
        var bytes = frames.bytes
        let isMutated = !self.generator.next().isMultiple(of: 4)
        if isMutated { bytes = Mutation.apply(bytes, using: &self.generator) }
        let whole = Reading(bytes, by: makeParser(), chunks: [])
        let chunks = Mutation.chunks(of: bytes.count, using: &self.generator)
        let inChunks = Reading(bytes, by: makeParser(), chunks: chunks, dirty: self.generator.next().isMultiple(of: 2))
        guard whole == inChunks else {
            throw Failure(what: "chunks \(chunks) gave \(inChunks), the whole \(whole)", bytes: bytes)
        }
        if !isMutated, whole != Reading(messages: expected) {
            throw Failure(what: "was sent \(expected), read \(whole)", bytes: bytes)
        }
        self.refused += whole.error == nil ? 0 : 1
        self.messages += whole.messages.count
        let again = Reading(self.encode(whole.messages), by: makeParser(), chunks: [])
        guard again == Reading(messages: whole.messages) else {
            throw Failure(what: "again gave \(again), before \(whole)", bytes: bytes)
        }
    }

    /// Frames as a client sends them, and the messages that they are.
    private mutating func conversation() -> ([RawFrame], [WebSocketMessage]) {
        var frames: [RawFrame] = []
        var messages: [WebSocketMessage] = []
        for _ in 0..<Int.random(in: 1...5, using: &self.generator) {
            let control = self.frame(self.generator.next().isMultiple(of: 2) ? 9 : 10, self.payload(125, isText: false))
            switch Int.random(in: 0..<4, using: &self.generator) {
            case 0:
                frames.append(control)
                messages.append(Self.message(control.opcode, control.payload))
            default:
                let isText = self.generator.next().isMultiple(of: 2)
                let payload = self.payload(200, isText: isText)
                messages.append(Self.message(isText ? 1 : 2, payload))
                var rest = payload[...]
                var opcode: UInt8 = isText ? 1 : 2
                for _ in 0..<Int.random(in: 0...2, using: &self.generator) {
                    let length = Int.random(in: 0...rest.count, using: &self.generator)
                    frames.append(self.frame(opcode, Array(rest.prefix(length)), isFinal: false))
                    rest = rest.dropFirst(length)
                    opcode = 0
                    if self.generator.next().isMultiple(of: 2) {
                        frames.append(control)
                        messages.insert(Self.message(control.opcode, control.payload), at: messages.count - 1)
                    }
                }
                frames.append(self.frame(opcode, Array(rest)))
            }
        }
        if self.generator.next().isMultiple(of: 8) {
            frames.append(.close(4003, Array("é".utf8)))
            messages.append(.close(code: .forbidden, reason: "é"))
        }
        return (frames, messages)
    }

    private mutating func frame(_ opcode: UInt8, _ payload: [UInt8], isFinal: Bool = true) -> RawFrame {
        let mask = (0..<4).map { _ in UInt8.random(in: 0...255, using: &self.generator) }
        return RawFrame(opcode: opcode, payload: payload, isFinal: isFinal, mask: mask)
    }

    private mutating func payload(_ longest: Int, isText: Bool) -> [UInt8] {
        let count = Int.random(in: 0...longest, using: &self.generator)
        guard isText else { return (0..<count).map { _ in UInt8.random(in: 0...255, using: &self.generator) } }
        let alphabet = ["a", "{", "\"", "é", "€", "😀", "\u{0}", "\u{10FFFF}"]
        var bytes: [UInt8] = []
        while bytes.count < count {
            bytes += Array(alphabet[Int.random(in: 0..<alphabet.count, using: &self.generator)].utf8)
        }
        return bytes
    }

    private static func message(_ opcode: UInt8, _ payload: [UInt8]) -> WebSocketMessage {
        let payload = ByteBuffer(bytes: payload)
        switch opcode {
        case 1: return .text(payload)
        case 2: return .binary(payload)
        case 9: return .ping(payload)
        default: return .pong(payload)
        }
    }

    private mutating func encode(_ messages: [WebSocketMessage]) -> [UInt8] {
        var bytes: [UInt8] = []
        for message in messages {
            let mask = UInt32.random(in: 0...UInt32.max, using: &self.generator)
            let frame =
                switch message {
                case .text(let payload): WebSocketFrame.masked(.text, payload, mask: mask)
                case .binary(let payload): WebSocketFrame.masked(.binary, payload, mask: mask)
                case .ping(let payload): WebSocketFrame.masked(.ping, payload, mask: mask)
                case .pong(let payload): WebSocketFrame.masked(.pong, payload, mask: mask)
                case .close(nil, _): WebSocketFrame.masked(.close, ByteBuffer(), mask: mask)
                case .close(let code?, let reason):
                    WebSocketFrame.masked(.close, WebSocketFrame.closePayload(code, reason: reason), mask: mask)
                }
            bytes += Array(frame.readableBytesView)
        }
        return bytes
    }
}
