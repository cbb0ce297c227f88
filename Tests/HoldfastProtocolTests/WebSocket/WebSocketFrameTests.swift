import NIOCore
import Testing

@testable import HoldfastProtocol

@Suite struct WebSocketFrameTests {
    @Test(
        arguments: [
            (0, [0x00]), (1, [0x01]), (125, [0x7D]), (126, [0x7E, 0x00, 0x7E]), (65535, [0x7E, 0xFF, 0xFF]),
            (65536, [0x7F, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] as [(Int, [UInt8])])
    func headers(_ count: Int, _ length: [UInt8]) {
        let payload = [UInt8](repeating: 0x2A, count: count)
        let buffer = ByteBuffer(bytes: payload)
        #expect(Array(WebSocketFrame.unmasked(.binary, buffer).readableBytesView) == [0x82] + length + payload)
        let maskedLength = [length[0] | 0x80] + length.dropFirst()
        let masked = Array(WebSocketFrame.masked(.binary, buffer, mask: 0x0102_0304).readableBytesView)
        #expect(masked == [0x82] + maskedLength + [1, 2, 3, 4] + payload.indices.map { 0x2A ^ UInt8($0 % 4 + 1) })
    }

    @Test func everyOpcode() {
        for opcode in WebSocketOpcode.allCases {
            #expect(Array(WebSocketFrame.unmasked(opcode).readableBytesView) == [0x80 | opcode.rawValue, 0])
            #expect(opcode.isControl == (opcode == .close || opcode == .ping || opcode == .pong))
        }
    }

    @Test(
        arguments: [0, 1, 2, 3, 4, 5, 7, 8, 9, 31, 125, 126, 65535, 65536],
        [0, 1, 0xFF00_0000, 0x37FA_213D, UInt32.max] as [UInt32])
    func maskRoundTrip(_ count: Int, _ mask: UInt32) {
        let payload = ByteBuffer(bytes: (0..<count).map { UInt8(truncatingIfNeeded: $0) })
        let frame = WebSocketFrame.masked(.binary, payload.inDirtyBuffer(), mask: mask)
        #expect(
            Reading(Array(frame.readableBytesView), by: WebSocketParser(role: .server), chunks: []).messages == [
                .binary(payload)
            ])
    }

    @Test func appendsBehindWhatIsThere() {
        var buffer = ByteBuffer(string: "x")
        WebSocketFrame.write(.text, ByteBuffer(string: "a"), into: &buffer)
        WebSocketFrame.write(.text, ByteBuffer(string: "b"), into: &buffer)
        #expect(Array(buffer.readableBytesView) == [0x78, 0x81, 1, 0x61, 0x81, 1, 0x62])
    }

    @Test func closePayloadFitsAControlFrame() {
        #expect(Array(WebSocketFrame.closePayload(.normal, reason: "").readableBytesView) == [0x03, 0xE8])
        for (reason, bytes) in [
            (String(repeating: "a", count: 123), 125), (String(repeating: "a", count: 124), 125),
            (String(repeating: "a", count: 122) + "é", 124), (String(repeating: "€", count: 42), 125),
            (String(repeating: "😀", count: 40), 122),
        ] {
            let payload = WebSocketFrame.closePayload(.drain, reason: reason)
            #expect(payload.readableBytes == bytes)
            guard
                case .close(code: .drain, let read)? = Reading(
                    Array(WebSocketFrame.unmasked(.close, payload).readableBytesView),
                    by: WebSocketParser(role: .client), chunks: []
                ).messages.first
            else {
                Issue.record("no close")
                continue
            }
            #expect(reason.hasPrefix(read))
        }
    }

    @Test func encodedEventHoldsItsFrameAndItsText() {
        for count in [0, 125, 126, 65535, 65536] {
            let json = ByteBuffer(bytes: [UInt8](repeating: 0x31, count: count))
            let event = EncodedEvent(json.inDirtyBuffer(), isCounted: true)
            #expect(event.json == json)
            #expect(event.webSocketFrame == WebSocketFrame.unmasked(.text, json))
            #expect(event.byteCount == event.webSocketFrame.readableBytes)
            #expect(event.isCounted)
        }
    }
}
