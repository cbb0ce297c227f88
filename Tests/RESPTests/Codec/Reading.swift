import NIOCore

@testable import RESP

/// What a parser makes of some bytes.
struct Reading: Equatable, CustomStringConvertible {
    var values: [String] = []
    var error: RESPError?

    var description: String { "\(self.values) \(self.error?.message ?? "")" }

    /// Feeds pieces of the given lengths.
    static func of(_ bytes: [UInt8], chunks: [Int], limits: RESPParser.Limits = .init()) -> Reading {
        var parser = RESPParser(limits: limits)
        var reading = Reading()
        var start = 0
        for length in chunks {
            parser.append(ByteBuffer(bytes: bytes[start..<start + length]))
            start += length
            guard reading.drain(&parser) else { break }
        }
        return reading
    }

    static func whole(_ bytes: [UInt8], limits: RESPParser.Limits = .init()) -> Reading {
        Self.of(bytes, chunks: bytes.isEmpty ? [] : [bytes.count], limits: limits)
    }

    static func byteByByte(_ bytes: [UInt8], limits: RESPParser.Limits = .init()) -> Reading {
        Self.of(bytes, chunks: Array(repeating: 1, count: bytes.count), limits: limits)
    }

    /// The bytes in the middle of a buffer that holds others before and behind.
    static func inDirtyBuffer(_ bytes: [UInt8], limits: RESPParser.Limits = .init()) -> Reading {
        var buffer = ByteBuffer(string: "*1\r\n$3\r\n")
        buffer.moveReaderIndex(to: buffer.writerIndex)
        buffer.writeBytes(bytes)
        let end = buffer.writerIndex
        buffer.writeString("\r\n+OK\r\n:1\r\n")
        buffer.moveWriterIndex(to: end)
        var parser = RESPParser(limits: limits)
        var reading = Reading()
        parser.append(buffer)
        _ = reading.drain(&parser)
        return reading
    }

    /// - Returns: whether the parser goes on.
    private mutating func drain(_ parser: inout RESPParser) -> Bool {
        do throws(RESPError) {
            // As text, because NaN is not equal to itself.
            while let value = try parser.next() { self.values.append(text(value)) }
            return true
        } catch {
            self.error = error
            return false
        }
    }
}

/// A value in a notation that is easy to write and to compare.
func text(_ value: RESPValue) -> String {
    switch value {
    case .simpleString(let bytes): "+\(String(buffer: bytes))"
    case .simpleError(let bytes): "-\(String(buffer: bytes))"
    case .bulkString(let bytes): "$\(String(buffer: bytes))"
    case .bulkError(let bytes): "!\(String(buffer: bytes))"
    case .verbatimString(let bytes): "=\(String(buffer: bytes))"
    case .number(let number): ":\(number)"
    case .double(let number): ",\(number)"
    case .boolean(let isTrue): "#\(isTrue)"
    case .bigNumber(let bytes): "(\(String(buffer: bytes))"
    case .null: "_"
    case .array(let values): "*[" + values.map(text).joined(separator: " ") + "]"
    case .map(let pairs): "%[" + pairs.map { "\(text($0.key))=\(text($0.value))" }.joined(separator: " ") + "]"
    case .set(let values): "~[" + values.map(text).joined(separator: " ") + "]"
    case .push(let values): ">[" + values.map(text).joined(separator: " ") + "]"
    }
}
