import NIOCore
import Testing

@testable import HoldfastProtocol

/// What the parser makes of well-formed frames.
@Suite struct WebSocketParserMessageTests {
    /// RFC 6455 §5.7.
    @Test func examplesOfTheStandard() {
        let hello: [UInt8] = [0x81, 0x85, 0x37, 0xFA, 0x21, 0x3D, 0x7F, 0x9F, 0x4D, 0x51, 0x58]
        #expect(read(hello) == Reading(messages: [.text("Hello")]))
        let client = WebSocketParser(role: .client)
        #expect(read([0x81, 0x05] + Array("Hello".utf8), by: client) == Reading(messages: [.text("Hello")]))
        #expect(
            read([0x01, 0x03, 0x48, 0x65, 0x6C, 0x80, 0x02, 0x6C, 0x6F], by: client)
                == Reading(messages: [.text("Hello")]))
        #expect(
            read([0x89, 0x05] + Array("Hello".utf8), by: client)
                == Reading(messages: [.ping(ByteBuffer(string: "Hello"))]))
        let bytes = [UInt8](repeating: 9, count: 65536)
        #expect(
            Reading([0x82, 0x7E, 0x01, 0x00] + bytes[..<256], by: client, chunks: []).messages == [
                .binary(ByteBuffer(bytes: bytes[..<256]))
            ])
        let long = [0x82, 0x7F, 0, 0, 0, 0, 0, 1, 0, 0] + bytes
        #expect(Reading(long, by: client, chunks: []).messages == [.binary(ByteBuffer(bytes: bytes))])
    }

    @Test func emptyPayloads() {
        let empty = ByteBuffer()
        #expect(
            read([1, 2, 9, 10, 8].map { RawFrame(opcode: $0) })
                == Reading(messages: [
                    .text(empty), .binary(empty), .ping(empty), .pong(empty), .close(code: nil, reason: ""),
                ])
        )
        #expect(
            read([.text("", isFinal: false), .more("", isFinal: false), .more("", isFinal: true)])
                == Reading(messages: [.text("")]))
        #expect(read([] as [UInt8]) == Reading(messages: []))
    }

    @Test func manyAtOnce() {
        let frames = (0..<300).map { RawFrame.text("m\($0)") }
        #expect(read(frames) == Reading(messages: (0..<300).map { .text("m\($0)") }))
    }

    @Test func controlFramesBetweenFragments() {
        #expect(
            read([
                .text("a", isFinal: false), RawFrame(opcode: 9, payload: [1]), .more("b", isFinal: false),
                RawFrame(opcode: 10, payload: [2]),
                .more("c", isFinal: true), .text("d"),
            ])
                == Reading(messages: [
                    .ping(ByteBuffer(bytes: [1])), .pong(ByteBuffer(bytes: [2])), .text("abc"), .text("d"),
                ])
        )
    }

    @Test func aCodePointMaySpanFragments() {
        let bytes = Array("a😀é".utf8)
        for first in 0...bytes.count {
            for second in first...bytes.count {
                let frames = [
                    RawFrame(opcode: 1, payload: Array(bytes[..<first]), isFinal: false),
                    RawFrame(opcode: 0, payload: Array(bytes[first..<second]), isFinal: false),
                    RawFrame(opcode: 0, payload: Array(bytes[second...])),
                ]
                #expect(read(frames) == Reading(messages: [.text("a😀é")]))
            }
        }
    }

    @Test func binaryIsNotText() {
        let bytes: [UInt8] = [0xFF, 0xC0, 0x80]
        #expect(read([RawFrame(opcode: 2, payload: bytes)]) == Reading(messages: [.binary(ByteBuffer(bytes: bytes))]))
        #expect(
            read([RawFrame(opcode: 2, payload: bytes, isFinal: false), RawFrame(opcode: 0, payload: bytes)])
                == Reading(messages: [.binary(ByteBuffer(bytes: bytes + bytes))])
        )
    }

    @Test(arguments: [0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 124, 125, 126, 127, 128, 65535, 65536, 65537])
    func everyLength(_ count: Int) {
        let payload = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7) }
        let bytes = [RawFrame(opcode: 2, payload: payload), .text("next")].bytes
        let expected = Reading(messages: [.binary(ByteBuffer(bytes: payload)), .text("next")])
        for chunk in [bytes.count, 1, 2, 5, 1000] {
            #expect(Reading(bytes, by: WebSocketParser(role: .server), chunks: bytes.map { _ in chunk }) == expected)
        }
    }

    @Test func nothingAfterAClose() {
        #expect(
            read([.close(1000, Array("bye".utf8)), .text("late")])
                == Reading(messages: [.close(code: .normal, reason: "bye")]))
        var parser = WebSocketParser(role: .server)
        parser.append(ByteBuffer(bytes: RawFrame.close(1000).bytes))
        #expect(throws: Never.self) { try parser.next() }
        parser.append(ByteBuffer(bytes: [0xFF, 0xFF]))
        #expect(throws: Never.self) { try parser.next() }
        #expect(parser.bufferedBytes == 0)
    }

    /// What came behind a Close in the same read is let go, as after an error.
    @Test func aCloseLetsTheBufferGo() throws {
        var parser = WebSocketParser(role: .server)
        parser.append(ByteBuffer(bytes: [.close(1000), .text("late")].bytes))
        #expect(try parser.next() == .close(code: .normal, reason: ""))
        #expect(parser.bufferedBytes == 0)
    }

    /// The caller's buffer may be shared with others: unmasking must not be seen through it.
    @Test func theCallersBufferStaysAsItWas() throws {
        let bytes = RawFrame.text("secret").bytes
        let shared = ByteBuffer(bytes: bytes)
        var parser = WebSocketParser(role: .server)
        parser.append(shared)
        #expect(try parser.next() == .text("secret"))
        #expect(Array(shared.readableBytesView) == bytes)
    }

    @Test func bytesAreHeldOnlyWhileSomethingIsIncomplete() throws {
        var parser = WebSocketParser(role: .server)
        let frame = RawFrame.text("hello", isFinal: false).bytes
        parser.append(ByteBuffer(bytes: frame.dropLast()))
        #expect(try parser.next() == nil)
        #expect(parser.bufferedBytes == frame.count - 1)
        parser.append(ByteBuffer(bytes: frame.suffix(1)))
        #expect(try parser.next() == nil)
        #expect(parser.bufferedBytes == 5)
        parser.append(ByteBuffer(bytes: RawFrame.more("", isFinal: true).bytes))
        #expect(try parser.next() == .text("hello"))
        #expect(parser.bufferedBytes == 0)
    }
}
