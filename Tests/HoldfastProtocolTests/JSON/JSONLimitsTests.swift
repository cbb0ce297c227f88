import NIOCore
import TestSupport
import Testing

@testable import HoldfastProtocol

@Suite struct JSONLimitsTests {
    private func nested(_ depth: Int, open: String, close: String) -> ByteBuffer {
        ByteBuffer(string: String(repeating: open, count: depth) + "1" + String(repeating: close, count: depth))
    }

    /// 64 and 65 are where the stack of bits leaves its first word.
    @Test(arguments: [1, 2, 63, 64, 65, 66, 128, 256, 5000])
    func depth(_ limit: Int) throws {
        let limits = JSONLimits(depth: limit)
        for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("[{\"a\":", "}]")] {
            let step = open.hasPrefix("[{") ? 2 : 1
            if limit % step == 0 {
                _ = try JSONValue(parsing: self.nested(limit / step, open: open, close: close), limits: limits)
            }
            var reason: JSONError.Reason?
            do {
                _ = try JSONValue(parsing: self.nested(limit / step + 1, open: open, close: close), limits: limits)
            } catch {
                reason = error.reason
            }
            #expect(reason == .tooDeep(limit: limit))
        }
    }

    @Test func depthOfAnEnvelopeCountsTheEnvelope() throws {
        let limits = JSONLimits(depth: 3)
        _ = try JSONObject(parsing: ByteBuffer(string: "{\"a\":[[1]]}"), limits: limits)
        #expect(throws: JSONError(.tooDeep(limit: 3), at: 7)) {
            try JSONObject(parsing: ByteBuffer(string: "{\"a\":[[[1]]]}"), limits: limits)
        }
    }

    /// A pattern of kinds deeper than one word, so that a confused stack of bits would accept a wrong bracket.
    @Test func mixedNestingBeyondOneWord() throws {
        var generator = SeededGenerator(seed: 7)
        for depth in 60...140 {
            let kinds = (0..<depth).map { _ in Bool.random(using: &generator) }
            let open = kinds.map { $0 ? "{\"k\":" : "[" }.joined()
            let close = kinds.reversed().map { $0 ? "}" : "]" }
            #expect(
                try JSONValue(parsing: ByteBuffer(string: open + "0" + close.joined())).kind
                    == (kinds[0] ? .object : .array))
            let wrong = Int.random(in: 0..<depth, using: &generator)
            var broken = close
            broken[wrong] = broken[wrong] == "}" ? "]" : "}"
            #expect((try? JSONValue(parsing: ByteBuffer(string: open + "0" + broken.joined()))) == nil)
        }
    }

    @Test func members() throws {
        func object(_ count: Int) -> ByteBuffer {
            ByteBuffer(string: "{" + (0..<count).map { "\"k\($0)\":\($0)" }.joined(separator: ",") + "}")
        }
        for limit in [1, 2, 64] {
            let limits = JSONLimits(members: limit)
            #expect(try JSONObject(parsing: object(limit), limits: limits).members.count == limit)
            var reason: JSONError.Reason?
            do { _ = try JSONObject(parsing: object(limit + 1), limits: limits) } catch { reason = error.reason }
            #expect(reason == .tooManyMembers(limit: limit))
        }
        #expect(try JSONObject(parsing: object(0), limits: JSONLimits(members: 0)).members.isEmpty)
    }

    @Test func membersBelowTheFirstLevelAreNotCounted() throws {
        let data = "{" + (0..<500).map { "\"k\($0)\":0" }.joined(separator: ",") + "}"
        let object = try JSONObject(parsing: ByteBuffer(string: "{\"data\":\(data)}"), limits: JSONLimits(members: 1))
        #expect(object["data"]?.text == data)
    }

    @Test func elements() throws {
        let array = try JSONValue(parsing: ByteBuffer(string: " [ 1 , \"a\" ,[2] ] ").inDirtyBuffer())
        #expect(try array.elements(limit: 3)?.map(\.text) == ["1", "\"a\"", "[2]"])
        var reason: JSONError.Reason?
        do { _ = try array.elements(limit: 2) } catch { reason = error.reason }
        #expect(reason == .tooManyMembers(limit: 2))
        #expect(try JSONValue(parsing: ByteBuffer(string: "[ ]")).elements(limit: 0)?.isEmpty == true)
        #expect(try JSONValue(parsing: ByteBuffer(string: "{}")).elements(limit: 9) == nil)
    }
}
