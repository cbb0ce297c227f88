import NIOCore
import Testing

@testable import HoldfastProtocol

/// Parsers that are broken on purpose. A run that does not catch them proves nothing about the one that is not.
@Suite struct MutationCanaryTests {
    /// Loses the first byte of every third chunk.
    struct DropsAByte: FrameParsing {
        var parser = FrameMutation.limited()
        var chunks = 0
        var bufferedBytes: Int { self.parser.bufferedBytes }

        mutating func append(_ bytes: ByteBuffer) {
            self.chunks += 1
            var bytes = bytes
            if self.chunks % 3 == 0, bytes.readableBytes > 0 { bytes.moveReaderIndex(forwardBy: 1) }
            self.parser.append(bytes)
        }

        mutating func next() throws(WebSocketError) -> WebSocketMessage? { try self.parser.next() }
    }

    /// Reads the third message as if its mask had another last byte.
    struct WrongMask: FrameParsing {
        var parser = FrameMutation.limited()
        var messages = 0
        var bufferedBytes: Int { self.parser.bufferedBytes }

        mutating func append(_ bytes: ByteBuffer) { self.parser.append(bytes) }

        mutating func next() throws(WebSocketError) -> WebSocketMessage? {
            let message = try self.parser.next()
            if message != nil { self.messages += 1 }
            guard self.messages == 3, case .binary(var payload) = message else { return message }
            for index in stride(from: payload.readerIndex + 3, to: payload.writerIndex, by: 4) {
                payload.setInteger((payload.getInteger(at: index, as: UInt8.self) ?? 0) ^ 0x5A, at: index)
            }
            return .binary(payload)
        }
    }

    /// Forgets what it has of a fragmented message when a control frame comes in between.
    struct LosesFragments: FrameParsing {
        var parser = FrameMutation.limited()
        var sawControl = false
        var bufferedBytes: Int { self.parser.bufferedBytes }

        mutating func append(_ bytes: ByteBuffer) { self.parser.append(bytes) }

        mutating func next() throws(WebSocketError) -> WebSocketMessage? {
            let message = try self.parser.next()
            switch message {
            case .ping, .pong:
                if self.bufferedBytes > 0 { self.sawControl = true }
                return message
            case .text(let payload) where self.sawControl:
                self.sawControl = false
                return .text(ByteBuffer(bytes: payload.readableBytesView.suffix(payload.readableBytes / 2)))
            case .text, .binary, .close, nil: return message
            }
        }
    }

    private func casesUntilCaught(seed: UInt64, _ makeParser: () -> some FrameParsing) -> Int {
        var run = FrameMutation(seed: seed)
        while run.cases < 2000 {
            do throws(FrameMutation.Failure) { try run.run(makeParser) } catch { return run.cases }
        }
        return .max
    }

    @Test(arguments: 1...8 as ClosedRange<UInt64>)
    func brokenParsersAreCaught(_ seed: UInt64) {
        #expect(self.casesUntilCaught(seed: seed) { DropsAByte() } <= 20)
        #expect(self.casesUntilCaught(seed: seed) { WrongMask() } <= 300)
        #expect(self.casesUntilCaught(seed: seed) { LosesFragments() } <= 500)
    }

    @Test func theRealOneIsNot() {
        #expect(self.casesUntilCaught(seed: 1, FrameMutation.limited) == .max)
    }
}
