import NIOCore
import Testing

@testable import RESP

struct RESPCommandEncoderTests {
    private func encode(_ command: String, _ arguments: [RESPArgument]) -> ByteBuffer {
        var buffer = ByteBuffer()
        RESPCommandEncoder.encode(command, arguments, into: &buffer)
        return buffer
    }

    @Test func commands() {
        #expect(self.encode("PING", []) == buffer("*1\r\n$4\r\nPING\r\n"))
        #expect(
            self.encode("SET", ["key", RESPArgument(-12), ""])
                == buffer("*4\r\n$3\r\nSET\r\n$3\r\nkey\r\n$3\r\n-12\r\n$0\r\n\r\n"))
        #expect(self.encode("X", ["ÿ"]) == buffer("*2\r\n$1\r\nX\r\n$2\r\nÿ\r\n"))
        let long = String(repeating: "a", count: 10)
        #expect(self.encode("X", [.string(long)]) == buffer("*2\r\n$1\r\nX\r\n$10\r\n\(long)\r\n"))
    }

    @Test func appends() {
        var all = buffer("before")
        RESPCommandEncoder.encode("A", [], into: &all)
        RESPCommandEncoder.encode("B", [], into: &all)
        #expect(all == buffer("before*1\r\n$1\r\nA\r\n*1\r\n$1\r\nB\r\n"))
    }

    /// What is written can be read, whatever the bytes; and the limit never counts less than is written.
    @Test func anyBytes() throws {
        let binary = ByteBuffer(bytes: (0...255).map { UInt8($0) } + [0x0D, 0x0A])
        let arguments: [RESPArgument] = [.bytes(binary), "x"] + (0..<20).map { RESPArgument($0) }
        let encoded = self.encode("PUBLISH", arguments)
        #expect(RESPCommandEncoder.estimate("PUBLISH", arguments) >= encoded.readableBytes)
        var parser = RESPParser()
        parser.append(encoded)
        guard case .array(let words)? = try parser.next() else { throw TestFailure("no array") }
        #expect(words.count == 23)
        #expect(words[1] == .bulkString(binary))
    }
}
