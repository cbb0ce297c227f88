import NIOCore
import Testing

@testable import RESP

/// Every limit at its value, and one beyond.
struct RESPParserLimitTests {
    private func limits(_ change: (inout RESPParser.Limits) -> Void) -> RESPParser.Limits {
        var limits = RESPParser.Limits()
        change(&limits)
        return limits
    }

    private func check(_ wire: String, _ limits: RESPParser.Limits, _ values: [String], _ error: String? = nil) {
        let expected = Reading(values: values, error: error.map { RESPError(.protocolError, $0) })
        #expect(Reading.whole(Array(wire.utf8), limits: limits) == expected)
        #expect(Reading.byteByByte(Array(wire.utf8), limits: limits) == expected)
    }

    @Test func defaults() {
        let limits = RESPParser.Limits()
        #expect(limits.bulkBytes == 64 << 20 && limits.lineBytes == 64 << 10 && limits.depth == 32)
        #expect(limits.elements == 1_048_576 && limits.valueBytes == 256 << 20)
    }

    @Test func bulk() {
        let limits = self.limits { $0.bulkBytes = 5 }
        self.check("$5\r\nhello\r\n", limits, ["$hello"])
        self.check("$6\r\n", limits, [], "bulk string of 6 bytes, the limit is 5")
        self.check("=6\r\n", limits, [], "verbatim string of 6 bytes, the limit is 5")
        self.check("!6\r\n", limits, [], "bulk error of 6 bytes, the limit is 5")
        self.check(
            "$9223372036854775807\r\n", limits, [], "bulk string of 9223372036854775807 bytes, the limit is 5")
    }

    @Test func line() {
        let limits = self.limits { $0.lineBytes = 5 }
        self.check("+12345\r\n", limits, ["+12345"])
        let error = "a simple string whose line has more than 5 bytes, which is the limit"
        self.check("+123456\r\n", limits, [], error)
        // Refused before its end has come.
        self.check("+123456", limits, [], error)
    }

    @Test func depth() {
        let limits = self.limits { $0.depth = 3 }
        self.check("*1\r\n*1\r\n*1\r\n:1\r\n", limits, ["*[*[*[:1]]]"])
        self.check("*1\r\n*1\r\n*1\r\n*1\r\n", limits, [], "a value nested 4 deep, the limit is 3")
        self.check("*1\r\n*1\r\n*1\r\n*0\r\n", limits, [], "a value nested 4 deep, the limit is 3")
        let deep = String(repeating: "*1\r\n", count: 33)
        self.check(deep, .init(), [], "a value nested 33 deep, the limit is 32")
    }

    @Test func elements() {
        let limits = self.limits { $0.elements = 4 }
        self.check("*4\r\n_\r\n_\r\n_\r\n_\r\n*4\r\n", limits, ["*[_ _ _ _]"])
        self.check("%2\r\n_\r\n_\r\n_\r\n_\r\n", limits, ["%[_=_ _=_]"])
        let rest = ", with which the value has more than 4 elements, which is the limit"
        self.check("*5\r\n", limits, [], "array of 5" + rest)
        self.check("%3\r\n", limits, [], "map of 3" + rest)
        self.check("|3\r\n", limits, [], "attribute of 3" + rest)
        // All aggregates of a value together.
        self.check("*2\r\n*2\r\n_\r\n_\r\n*0\r\n", limits, ["*[*[_ _] *[]]"])
        self.check("*2\r\n*2\r\n_\r\n_\r\n*1\r\n", limits, [], "array of 1" + rest)
        self.check("%4611686018427387904\r\n", limits, [], "map of 4611686018427387904" + rest)
        self.check("*9223372036854775807\r\n", limits, [], "array of 9223372036854775807" + rest)
    }

    @Test func value() {
        let wire = "*2\r\n$3\r\nabc\r\n:1\r\n"
        self.check(wire + wire, self.limits { $0.valueBytes = wire.utf8.count }, ["*[$abc :1]", "*[$abc :1]"])
        self.check(
            wire, self.limits { $0.valueBytes = wire.utf8.count - 1 }, [],
            "a value of at least \(wire.utf8.count) bytes, the limit is \(wire.utf8.count - 1)")
        // Attributes belong to the value that they precede.
        let limits = self.limits { $0.valueBytes = 16 }
        self.check("|0\r\n|0\r\n|0\r\n:1\r\n", limits, [":1"])
        self.check("|0\r\n|0\r\n|0\r\n|0\r\n:1\r\n", limits, [], "a value of at least 20 bytes, the limit is 16")
    }

    /// A header is no reason to take memory.
    @Test func declaredLengthsCostNothing() throws {
        var parser = RESPParser()
        parser.append(buffer("*1000000\r\n$60000000\r\nabc"))
        #expect(try parser.next() == nil)
        #expect(parser.bufferedBytes == 3)
    }

    /// Many small pieces of one large value take as long as the same pieces of many small values. If each piece cost as
    /// much as all before it, the large one would take some hundred times as long.
    @Test(arguments: ["bulk", "array"])
    func smallPieces(kind: String) throws {
        func run(_ count: Int) throws -> Duration {
            var parser = RESPParser()
            let start = ContinuousClock.now
            parser.append(buffer(kind == "bulk" ? "$\(count * 8)\r\n" : "*\(count)\r\n"))
            // Not a whole number of elements, so that every piece ends inside one.
            let piece = buffer(kind == "bulk" ? "12345678" : "\r\n:12345")
            if kind == "array" { parser.append(buffer(":12345")) }
            for _ in 0..<count - (kind == "bulk" ? 0 : 1) {
                parser.append(piece)
                guard try parser.next() == nil else { throw TestFailure("a value before its end") }
            }
            parser.append(buffer("\r\n"))
            #expect(try parser.next() != nil)
            return ContinuousClock.now - start
        }
        _ = try run(1_000)
        let (small, large) = (1_000, 20_000)
        let many = try (0..<large / small).map { _ in try run(small) }.reduce(.zero, +)
        let one = try (0..<2).map { _ in try run(large) }.min() ?? .zero
        #expect(one < many * 8, "\(many) for many, \(one) for one")
    }
}
