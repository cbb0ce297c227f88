import NIOCore
import Testing

@testable import HoldfastProtocol

@Suite struct WebSocketParserLimitTests {
    @Test(arguments: [0, 1, 125, 126, 65535, 65536])
    func frame(_ limit: Int) {
        let parser = WebSocketParser(role: .server, maxFrameBytes: limit, maxMessageBytes: 1 << 20)
        #expect(Reading(RawFrame.binary(limit).bytes, by: parser, chunks: []).messages.count == 1)
        let over = Reading(RawFrame.binary(limit + 1).bytes, by: parser, chunks: [])
        #expect(
            over
                == Reading(
                    messages: [],
                    error: WebSocketError(.messageTooBig, "frame of \(limit + 1) bytes, the limit is \(limit)")))
    }

    @Test(arguments: [0, 1, 125, 126, 65535, 65536])
    func message(_ limit: Int) {
        let parser = WebSocketParser(role: .server, maxFrameBytes: 1 << 20, maxMessageBytes: limit)
        #expect(Reading(RawFrame.binary(limit).bytes, by: parser, chunks: []).messages.count == 1)
        let over = Reading(RawFrame.binary(limit + 1).bytes, by: parser, chunks: [])
        #expect(
            over
                == Reading(
                    messages: [],
                    error: WebSocketError(.messageTooBig, "message of \(limit + 1) bytes, the limit is \(limit)")))
    }

    @Test func fragmentsTogether() {
        let parser = WebSocketParser(role: .server, maxFrameBytes: 6, maxMessageBytes: 10)
        func fragments(_ last: Int) -> [RawFrame] {
            [
                .binary(5, isFinal: false), RawFrame(opcode: 9, payload: Array(repeating: 0, count: 125)),
                .more("12345".prefix(5).description, isFinal: false),
                RawFrame(opcode: 0, payload: Array(repeating: 1, count: last)),
            ]
        }
        #expect(read(fragments(0), by: parser).messages.count == 2)
        let over = read(fragments(1), by: parser)
        #expect(over.messages.count == 1)
        #expect(over.error == WebSocketError(.messageTooBig, "message of 11 bytes, the limit is 10"))
        // The next message begins at zero again.
        #expect(read(fragments(0) + fragments(0), by: parser).error == nil)
    }

    /// Control frames have a limit of their own.
    @Test func controlFramesAreNotMessages() {
        let parser = WebSocketParser(role: .server, maxFrameBytes: 1, maxMessageBytes: 1)
        #expect(read([RawFrame(opcode: 9, payload: Array(repeating: 0, count: 125))], by: parser).messages.count == 1)
    }

    /// The length is judged before the payload, and even the mask, has come.
    @Test func asSoonAsTheLengthIsKnown() {
        let parser = WebSocketParser(role: .server, maxFrameBytes: 100, maxMessageBytes: 100)
        #expect(read([0x82, 0x80 | 101], by: parser).error?.code == .messageTooBig)
        #expect(read([0x82, 0x80 | 126, 0x01, 0x00], by: parser).error?.code == .messageTooBig)
        #expect(read([0x82, 0x80 | 126, 0x01], by: parser).error == nil)
    }
}
