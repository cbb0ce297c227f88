import NIOCore
import Testing

@testable import HoldfastProtocol

/// What the parser refuses, and with which code (RFC 6455 §5, §7.4, §8.1).
@Suite struct WebSocketParserRuleTests {
    private func code(_ frames: [RawFrame], by parser: WebSocketParser = WebSocketParser(role: .server)) -> CloseCode? {
        read(frames, by: parser).error?.code
    }

    @Test(arguments: 1...7 as ClosedRange<UInt8>)
    func reservedBits(_ bits: UInt8) {
        #expect(self.code([RawFrame(opcode: 1, reserved: bits)]) == .protocolError)
        #expect(self.code([RawFrame(opcode: 9, reserved: bits)]) == .protocolError)
        // One byte is enough to know.
        #expect(read([0x81 | bits << 4]).error?.code == .protocolError)
    }

    @Test(arguments: [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] as [UInt8])
    func reservedOpcodes(_ opcode: UInt8) {
        #expect(self.code([RawFrame(opcode: opcode)]) == .protocolError)
        #expect(read([0x80 | opcode]).error?.code == .protocolError)
        #expect(self.code([.text("a", isFinal: false), RawFrame(opcode: opcode)]) == .protocolError)
    }

    @Test(arguments: [1, 2, 8, 9, 10] as [UInt8])
    func maskingByRole(_ opcode: UInt8) {
        let client = WebSocketParser(role: .client)
        #expect(self.code([RawFrame(opcode: opcode, mask: nil)]) == .protocolError)
        #expect(self.code([RawFrame(opcode: opcode)], by: client) == .protocolError)
        #expect(self.code([RawFrame(opcode: opcode)]) == nil)
        #expect(self.code([RawFrame(opcode: opcode, mask: nil)], by: client) == nil)
        // Two bytes are enough to know.
        #expect(read([0x80 | opcode, 0x00]).error?.code == .protocolError)
        #expect(read([0x80 | opcode, 0x80], by: client).error?.code == .protocolError)
    }

    @Test(arguments: [8, 9, 10] as [UInt8])
    func controlFrames(_ opcode: UInt8) {
        let code: [UInt8] = [0x03, 0xE8]
        func payload(_ count: Int) -> [UInt8] { code + Array(repeating: 0x61, count: count - 2) }
        #expect(self.code([RawFrame(opcode: opcode, payload: payload(125))]) == nil)
        #expect(self.code([RawFrame(opcode: opcode, payload: payload(126))]) == .protocolError)
        #expect(self.code([RawFrame(opcode: opcode, payload: payload(10), length: .sixteen)]) == .protocolError)
        #expect(self.code([RawFrame(opcode: opcode, payload: payload(10), length: .sixtyFour)]) == .protocolError)
        #expect(self.code([RawFrame(opcode: opcode, isFinal: false)]) == .protocolError)
    }

    @Test func orderOfFragments() {
        #expect(self.code([.more("a", isFinal: true)]) == .protocolError)
        #expect(self.code([.more("a", isFinal: false)]) == .protocolError)
        #expect(self.code([.text("a"), .more("b", isFinal: true)]) == .protocolError)
        #expect(self.code([.text("a", isFinal: false), .text("b")]) == .protocolError)
        #expect(self.code([.text("a", isFinal: false), .binary(1)]) == .protocolError)
        #expect(self.code([.binary(1, isFinal: false), .text("a", isFinal: false)]) == .protocolError)
        #expect(
            self.code([.binary(1, isFinal: false), .more("", isFinal: true), .more("", isFinal: true)])
                == .protocolError)
    }

    @Test func lengthsMustBeShortest() {
        for count in [0, 1, 125] {
            #expect(
                self.code([RawFrame(opcode: 2, payload: Array(repeating: 1, count: count), length: .sixteen)])
                    == .protocolError)
        }
        #expect(self.code([RawFrame(opcode: 2, payload: Array(repeating: 1, count: 126), length: .sixteen)]) == nil)
        for announced: UInt64 in [0, 125, 126, 65535] {
            #expect(self.code([RawFrame(opcode: 2, length: .sixtyFour, announced: announced)]) == .protocolError)
        }
    }

    @Test(arguments: [1 << 63, .max, 1 << 63 | 1] as [UInt64])
    func highestBitOfALength(_ announced: UInt64) {
        #expect(self.code([RawFrame(opcode: 2, length: .sixtyFour, announced: announced)]) == .protocolError)
    }

    @Test(arguments: [1 << 21, UInt64(Int64.max), UInt64(Int64.max) - 1, 1 << 32] as [UInt64])
    func hugeLengthsAreRefusedBeforeAnyPayload(_ announced: UInt64) {
        #expect(self.code([RawFrame(opcode: 2, length: .sixtyFour, announced: announced)]) == .messageTooBig)
        #expect(
            self.code([.binary(1, isFinal: false), RawFrame(opcode: 0, length: .sixtyFour, announced: announced)])
                == .messageTooBig
        )
    }

    @Test(
        arguments: [
            [0xC3], [0xFF], [0xC0, 0x80], [0xED, 0xA0, 0x80], [0x61, 0xF4, 0x90, 0x80, 0x80], [0xE2, 0x82], [0x80],
        ] as [[UInt8]])
    func invalidUTF8(_ bytes: [UInt8]) {
        #expect(self.code([RawFrame(opcode: 1, payload: bytes)]) == .invalidPayload)
        #expect(self.code([.text("ok", isFinal: false), RawFrame(opcode: 0, payload: bytes)]) == .invalidPayload)
        #expect(
            self.code([RawFrame(opcode: 1, payload: bytes, isFinal: false), .more("", isFinal: true)])
                == .invalidPayload)
        #expect(
            self.code([RawFrame(opcode: 1, payload: bytes, isFinal: false), .more("é", isFinal: true)])
                == .invalidPayload)
        #expect(self.code([.close(1000, bytes)]) == .invalidPayload)
    }

    /// Wrong bytes in a first fragment are refused at once, not with the last one.
    @Test func invalidUTF8FailsFast() {
        #expect(self.code([RawFrame(opcode: 1, payload: [0x61, 0xFF], isFinal: false)]) == .invalidPayload)
        #expect(self.code([RawFrame(opcode: 1, payload: [0xC3], isFinal: false)]) == nil)
    }

    @Test func closePayloads() {
        #expect(self.code([RawFrame(opcode: 8, payload: [0x03])]) == .protocolError)
        #expect(
            read([.close(4003, Array("Grüße".utf8))]) == Reading(messages: [.close(code: .forbidden, reason: "Grüße")]))
        #expect(read([.close(1000)]) == Reading(messages: [.close(code: .normal, reason: "")]))
    }

    /// All 65,536 codes, by the parser and by the table.
    @Test func everyCloseCode() throws {
        for code in UInt16.min...UInt16.max {
            var parser = WebSocketParser(role: .client)
            parser.append(ByteBuffer(bytes: [0x88, 0x02, UInt8(code >> 8), UInt8(code & 0xFF)]))
            do {
                let message = try parser.next()
                if !CloseCode.isValidOnWire(code) || message != .close(code: CloseCode(rawValue: code), reason: "") {
                    Issue.record("accepted \(code)")
                }
            } catch {
                if CloseCode.isValidOnWire(code) || error.code != .protocolError { Issue.record("refused \(code)") }
            }
        }
    }

    @Test func nothingAfterAnError() throws {
        let reading = read([.text("a"), RawFrame(opcode: 3), .text("b")])
        #expect(reading.messages == [.text("a")])
        #expect(reading.error?.code == .protocolError)
        #expect(reading.bufferedBytes == 0)
    }
}
