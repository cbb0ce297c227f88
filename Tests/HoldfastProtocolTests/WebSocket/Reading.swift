import NIOCore
import Testing

@testable import HoldfastProtocol

/// What the harnesses feed. The canary tests put broken parsers here.
protocol FrameParsing {
    var bufferedBytes: Int { get }
    mutating func append(_ bytes: ByteBuffer)
    mutating func next() throws(WebSocketError) -> WebSocketMessage?
}

extension WebSocketParser: FrameParsing {}

/// All that came out of a parser.
struct Reading: Equatable {
    var messages: [WebSocketMessage] = []
    var error: WebSocketError?
    var bufferedBytes = 0

    /// Feeds chunks of the given lengths, the rest in one.
    init(_ bytes: [UInt8], by parser: some FrameParsing, chunks: some Sequence<Int>, dirty: Bool = false) {
        var parser = parser
        var rest = bytes[...]
        for length in chunks where !rest.isEmpty {
            self.feed(rest.prefix(length), &parser, dirty)
            rest = rest.dropFirst(length)
        }
        self.feed(rest, &parser, dirty)
        // After a Close nothing is read any more; WebSocketParserMessageTests looks at what is held then.
        if case .close = self.messages.last { return }
        self.bufferedBytes = parser.bufferedBytes
    }

    private mutating func feed(_ chunk: ArraySlice<UInt8>, _ parser: inout some FrameParsing, _ dirty: Bool) {
        let buffer = ByteBuffer(bytes: chunk)
        parser.append(dirty ? buffer.inDirtyBuffer() : buffer)
        do throws(WebSocketError) {
            while let message = try parser.next() { self.messages.append(message) }
        } catch {
            // A second error would mean that the parser went on after the first.
            if self.error != nil { Issue.record("the parser went on after an error") }
            self.error = error
        }
    }

    init(messages: [WebSocketMessage], error: WebSocketError? = nil, bufferedBytes: Int = 0) {
        self.messages = messages
        self.error = error
        self.bufferedBytes = bufferedBytes
    }
}

/// Reads whole, byte by byte, in threes and inside dirty buffers, and expects the same each time.
func read(_ bytes: [UInt8], by parser: WebSocketParser = WebSocketParser(role: .server)) -> Reading {
    let whole = Reading(bytes, by: parser, chunks: [])
    #expect(Reading(bytes, by: parser, chunks: bytes.map { _ in 1 }) == whole)
    #expect(Reading(bytes, by: parser, chunks: bytes.map { _ in 3 }) == whole)
    #expect(Reading(bytes, by: parser, chunks: bytes.map { _ in 7 }, dirty: true) == whole)
    #expect(Reading(bytes, by: parser, chunks: [], dirty: true) == whole)
    return whole
}

func read(_ frames: [RawFrame], by parser: WebSocketParser = WebSocketParser(role: .server)) -> Reading {
    read(frames.bytes, by: parser)
}

extension WebSocketMessage {
    static func text(_ text: String) -> WebSocketMessage { .text(ByteBuffer(string: text)) }
}
