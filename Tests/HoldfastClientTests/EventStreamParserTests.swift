import NIOCore
import Testing

@testable import HoldfastClient

@Suite("Event stream")
struct EventStreamParserTests {
    private typealias Element = EventStreamParser.Element

    private static func event(_ data: String, type: String = "") -> Element {
        .event(type: type, data: ByteBuffer(string: data))
    }

    private func parse(_ pieces: [ByteBuffer], limit: Int = 1000) throws -> [Element] {
        var parser = EventStreamParser(limit: limit)
        var elements: [Element] = []
        for piece in pieces {
            parser.append(piece)
            while let element = try parser.next() { elements.append(element) }
        }
        return elements
    }

    @Test(arguments: [
        (": hello\n\ndata: {\"a\":1}\n\n", [Element.comment, event("{\"a\":1}")]),
        ("data:x\n\ndata:  y\n\n", [event("x"), event(" y")]),
        ("event: close\ndata: {}\n\ndata: z\n\n", [event("{}", type: "close"), event("z")]),
        ("data: a\r\ndata: b\r\n\r\n:\r\n", [event("a\nb"), .comment]),
        ("data: a\r\rdata: b\r\r:c\r", [event("a"), event("b"), .comment]),
        ("\u{FEFF}data: first\n\n", [event("first")]),
        ("id: 7\nretry: 1\nunknown\ndata\n\n", [event("")]),
        ("event: nothing\n\ndata: x\n\n", [event("x")]),
        ("data: é😀\n\ndata: not whole", [event("é😀")]),
    ])
    private func everyCut(text: String, elements: [Element]) throws {
        let bytes = Array(text.utf8)
        for cut in 0...bytes.count {
            #expect(try self.parse([ByteBuffer(bytes: bytes[..<cut]), ByteBuffer(bytes: bytes[cut...])]) == elements)
        }
        #expect(try self.parse(bytes.map { ByteBuffer(integer: $0) }) == elements)
    }

    @Test func aLineThatIsTooLongIsRefused() throws {
        let exact = String(repeating: "x", count: 1000)
        #expect(try self.parse([ByteBuffer(string: "data: \(exact)\n\n")]) == [Self.event(exact)])
        #expect(throws: EventStreamParser.TooLong(limit: 1000)) {
            try self.parse([ByteBuffer(string: "data: \(exact)x\n\n")])
        }
        #expect(throws: EventStreamParser.TooLong(limit: 1000)) {
            try self.parse([ByteBuffer(string: String(repeating: "x", count: 1017))])
        }
        #expect(throws: EventStreamParser.TooLong(limit: 1000)) {
            try self.parse([ByteBuffer(string: String(repeating: "data: \(exact.prefix(100))\n", count: 11))])
        }
    }
}
