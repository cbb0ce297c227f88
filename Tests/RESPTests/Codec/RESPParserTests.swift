import NIOCore
import Testing

@testable import RESP

struct RESPParserTests {
    /// Wire, what it means.
    static let values: [(String, String)] = [
        ("+OK\r\n", "+OK"),
        ("+\r\n", "+"),
        ("-ERR no\r\n", "-ERR no"),
        ("$5\r\nhello\r\n", "$hello"),
        ("$0\r\n\r\n", "$"),
        ("$4\r\n\r\n\r\n\r\n", "$\r\n\r\n"),
        ("$-1\r\n", "_"),
        ("*-1\r\n", "_"),
        ("_\r\n", "_"),
        ("!21\r\nSYNTAX invalid syntax\r\n", "!SYNTAX invalid syntax"),
        ("=15\r\ntxt:Some string\r\n", "=Some string"),
        ("=4\r\ntxt:\r\n", "="),
        (":0\r\n", ":0"),
        (":+7\r\n", ":7"),
        (":-1\r\n", ":-1"),
        (":9223372036854775807\r\n", ":9223372036854775807"),
        (":-9223372036854775808\r\n", ":-9223372036854775808"),
        (",1.25\r\n", ",1.25"),
        (",10\r\n", ",10.0"),
        (",-1.5e-3\r\n", ",-0.0015"),
        (",inf\r\n", ",inf"),
        (",-inf\r\n", ",-inf"),
        (",nan\r\n", ",nan"),
        (",-nan\r\n", ",nan"),
        ("#t\r\n", "#true"),
        ("#f\r\n", "#false"),
        (
            "(3492890328409238509324850943850943825024385\r\n", "(3492890328409238509324850943850943825024385"
        ),
        ("(-1\r\n", "(-1"),
        ("*0\r\n", "*[]"),
        ("%0\r\n", "%[]"),
        ("~0\r\n", "~[]"),
        (">0\r\n", ">[]"),
        ("*2\r\n$1\r\na\r\n*2\r\n:1\r\n*0\r\n", "*[$a *[:1 *[]]]"),
        ("*3\r\n$-1\r\n_\r\n*-1\r\n", "*[_ _ _]"),
        ("%2\r\n+a\r\n:1\r\n+b\r\n%1\r\n+c\r\n#t\r\n", "%[+a=:1 +b=%[+c=#true]]"),
        ("~2\r\n:1\r\n:1\r\n", "~[:1 :1]"),
        (">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n", ">[$message $c $hi]"),
        ("|1\r\n+ttl\r\n:3\r\n*2\r\n:1\r\n:2\r\n", "*[:1 :2]"),
        ("|0\r\n:5\r\n", ":5"),
        ("*3\r\n:1\r\n|1\r\n+ttl\r\n*1\r\n:9\r\n:2\r\n|0\r\n:3\r\n", "*[:1 :2 :3]"),
        ("*1\r\n%1\r\n|1\r\n+k\r\n+v\r\n+a\r\n|0\r\n*1\r\n~1\r\n_\r\n", "*[%[+a=*[~[_]]]]"),
    ]

    /// Not as arguments of the test: its name would be full of line breaks.
    @Test func eachValue() {
        for (wire, meaning) in Self.values {
            let bytes = Array(wire.utf8)
            let expected = Reading(values: [meaning])
            #expect(Reading.whole(bytes) == expected)
            #expect(Reading.byteByByte(bytes) == expected)
            #expect(Reading.inDirtyBuffer(bytes) == expected)
        }
    }

    @Test func manyAtOnceCutEverywhere() {
        let bytes = Self.values.flatMap { Array($0.0.utf8) }
        let expected = Reading(values: Self.values.map(\.1))
        #expect(Reading.whole(bytes) == expected)
        #expect(Reading.byteByByte(bytes) == expected)
        for cut in 1..<bytes.count {
            #expect(Reading.of(bytes, chunks: [cut, bytes.count - cut]) == expected, "cut at \(cut)")
        }
        for length in 2...64 {
            var chunks = Array(repeating: length, count: bytes.count / length)
            if bytes.count % length > 0 { chunks.append(bytes.count % length) }
            #expect(Reading.of(bytes, chunks: chunks) == expected, "pieces of \(length)")
        }
    }

    /// Wire, the error.
    static let errors: [(String, String)] = [
        ("x", "0x78 is not the first byte of a RESP value"),
        ("\r\n", "0xd is not the first byte of a RESP value"),
        (";4\r\n", "0x3b is not the first byte of a RESP value"),
        ("+a\nb\r\n", "a LF without CR in a simple string"),
        ("+a\rb\r\n", "a CR without LF in a simple string"),
        ("$?\r\n", "a streamed bulk string, which is not supported"),
        ("*?\r\n", "a streamed array, which is not supported"),
        ("%?\r\n", "a streamed map, which is not supported"),
        ("$\r\n", "\"\" is not the length of a bulk string"),
        ("$-2\r\n", "\"-2\" is not the length of a bulk string"),
        ("$+1\r\n", "\"+1\" is not the length of a bulk string"),
        ("$ 1\r\n", "\" 1\" is not the length of a bulk string"),
        ("$1a\r\n", "\"1a\" is not the length of a bulk string"),
        ("$9223372036854775808\r\n", "\"9223372036854775808\" is not the length of a bulk string"),
        ("!-1\r\n", "\"-1\" is not the length of a bulk error"),
        ("%-1\r\n", "\"-1\" is not the length of a map"),
        (">-1\r\n", "\"-1\" is not the length of a push"),
        ("*x\r\n", "\"x\" is not the length of a array"),
        ("$1\r\nabc", "no CRLF behind a bulk string of 1 bytes"),
        ("$1\r\na\r\r", "no CRLF behind a bulk string of 1 bytes"),
        (
            "=3\r\ntxt\r\n", "a verbatim string without a format of three characters and a colon"
        ),
        ("=4\r\ntext\r\n", "a verbatim string without a format of three characters and a colon"),
        (":\r\n", "\"\" is not a number of 64 bits"),
        (":-\r\n", "\"-\" is not a number of 64 bits"),
        (":9223372036854775808\r\n", "\"9223372036854775808\" is not a number of 64 bits"),
        (":1.0\r\n", "\"1.0\" is not a number of 64 bits"),
        (",0x1p3\r\n", "\"0x1p3\" is not a double"),
        (",infinity\r\n", "\"infinity\" is not a double"),
        (",\r\n", "\"\" is not a double"),
        ("#x\r\n", "\"x\" is not a boolean"),
        ("#true\r\n", "\"true\" is not a boolean"),
        ("(\r\n", "\"\" is not a big number"),
        ("(-\r\n", "\"-\" is not a big number"),
        ("(1a\r\n", "\"1a\" is not a big number"),
        ("_1\r\n", "a null with 1 bytes in it"),
        ("*1\r\n>1\r\n+a\r\n", "a push inside another value"),
        (
            ":" + String(repeating: "1", count: 40) + "\r\n",
            "\"\(String(repeating: "1", count: 32))…\" is not a number of 64 bits"
        ),
    ]

    @Test func eachError() {
        for (wire, message) in Self.errors {
            let bytes = Array("+before\r\n".utf8) + Array(wire.utf8) + Array("+after\r\n".utf8)
            let expected = Reading(values: ["+before"], error: RESPError(.protocolError, message))
            #expect(Reading.whole(bytes) == expected)
            #expect(Reading.byteByByte(bytes) == expected)
            #expect(Reading.inDirtyBuffer(bytes) == expected)
        }
    }

    @Test func readsNothingAfterAnError() throws {
        var parser = RESPParser()
        parser.append(buffer("x+OK\r\n"))
        #expect(throws: RESPError.self) { try parser.next() }
        parser.append(buffer("+OK\r\n"))
        #expect(try parser.next() == nil)
        #expect(parser.bufferedBytes == 0)
    }

    @Test func bytesThatAreNotText() throws {
        let payload: [UInt8] = [0x00, 0xFF, 0x0D, 0x0A, 0xC3]
        let bytes = Array("$5\r\n".utf8) + payload + [0x0D, 0x0A]
        for chunk in 1...bytes.count {
            var parser = RESPParser()
            var found: RESPValue?
            for start in stride(from: 0, to: bytes.count, by: chunk) {
                parser.append(ByteBuffer(bytes: bytes[start..<min(start + chunk, bytes.count)]))
                found = try parser.next() ?? found
            }
            #expect(found == .bulkString(ByteBuffer(bytes: payload)))
        }
    }

    /// What was handed out does not change when more comes.
    @Test func valuesKeepTheirBytes() throws {
        var parser = RESPParser()
        parser.append(buffer("$3\r\none\r\n$3\r\nt"))
        let first = try parser.next()
        #expect(try parser.next() == nil)
        parser.append(buffer("wo\r\n"))
        #expect(try parser.next() == .bulkString(buffer("two")))
        #expect(first == .bulkString(buffer("one")))
    }

    @Test func accessors() {
        #expect(RESPValue.bulkString(buffer("a")).string == "a")
        #expect(RESPValue.simpleString(buffer("a")).bytes == buffer("a"))
        #expect(RESPValue.simpleError(buffer("a")).string == nil)
        #expect(RESPValue.number(3).integer == 3)
        #expect(RESPValue.null.integer == nil)
        #expect(RESPValue.bulkError(buffer("ERR a")).errorMessage == "ERR a")
    }
}
