import NIOCore
import Testing

@testable import HoldfastProtocol

@Suite struct JSONWriterTests {
    @Test func everyControlCharacterAndBeyond() throws {
        for scalar in (0...0x2FF).compactMap(Unicode.Scalar.init) + ["\u{2028}", "\u{FFFF}", "\u{10000}", "\u{10FFFF}"]
        {
            let text = "a\(Character(scalar))b"
            var buffer = ByteBuffer()
            buffer.writeJSONString(text)
            let value = try JSONValue(parsing: buffer)
            #expect(value.string.map { Array($0.utf8) } == Array(text.utf8))
        }
    }

    @Test func escapes() {
        var buffer = ByteBuffer()
        buffer.writeJSONString("\"\\/\u{8}\u{9}\u{A}\u{C}\u{D}\u{1}\u{1F}\u{7F}é")
        #expect(String(buffer: buffer) == "\"\\\"\\\\/\\b\\t\\n\\f\\r\\u0001\\u001f\u{7F}é\"")
    }

    @Test func everyKindOfMember() {
        let text = JSONWriter.object { json in
            json.member("s", "x")
            json.member("i", -3)
            json.member("u", UInt64.max)
            json.member("b", true)
            json.memberNull("n")
            json.member("o", object: { $0.member("in", false) })
            json.member("e", object: { _ in })
            json.member(
                "a",
                array: { json in
                    json.element("t")
                    json.element(number: 1.5)
                    json.element(raw: ByteBuffer(string: "[ 1]"))
                    json.element(object: { $0.member("k", 0) })
                })
            json.member("l", 1)
        }
        #expect(
            String(buffer: text)
                == #"{"s":"x","i":-3,"u":18446744073709551615,"b":true,"n":null,"o":{"in":false},"e":{},"a":["t",1.5,[ 1],{"k":0}],"l":1}"#
        )
    }

    @Test(arguments: [
        (0.0, "0"), (-0.0, "0"), (4, "4"), (2.5, "2.5"), (-1, "-1"), (1e14, "100000000000000"), (0.1, "0.1"),
        (.infinity, "0"), (.nan, "0"),
    ])
    func numbers(_ number: Double, _ text: String) throws {
        #expect(String(buffer: JSONWriter.object { $0.member("n", number: number) }) == "{\"n\":\(text)}")
    }

    @Test(arguments: [1e15, 1e300, 5e-324, 1.7976931348623157e308, -2.5e-8])
    func extremeNumbersAreJSON(_ number: Double) throws {
        let object = try JSONObject(parsing: JSONWriter.object { $0.member("n", number: number) })
        #expect(object["n"].flatMap { Double($0.text) } == number)
    }
}
