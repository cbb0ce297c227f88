import NIOCore

/// Reads what is in one line.
enum Scalar {
    /// A length or a count.
    /// - Returns: `nil` for RESP2's null.
    static func length(of line: ByteBuffer, _ type: RESPType) throws(RESPError) -> Int? {
        if line.readableBytes == 1, line.getInteger(at: line.readerIndex) == UInt8(ascii: "?") {
            throw .protocolError("a streamed \(type.name), which is not supported")
        }
        guard let number = self.integer(line, allowsPlus: false), number >= (type.canBeNull ? -1 : 0) else {
            throw .protocolError("\(self.quoted(line)) is not the length of a \(type.name)")
        }
        return number == -1 ? nil : Int(number)
    }

    static func number(_ line: ByteBuffer) throws(RESPError) -> Int64 {
        guard let number = self.integer(line, allowsPlus: true) else {
            throw .protocolError("\(self.quoted(line)) is not a number of 64 bits")
        }
        return number
    }

    static func boolean(_ line: ByteBuffer) throws(RESPError) -> Bool {
        guard line.readableBytes == 1, let letter: UInt8 = line.getInteger(at: line.readerIndex),
            letter == UInt8(ascii: "t") || letter == UInt8(ascii: "f")
        else { throw .protocolError("\(self.quoted(line)) is not a boolean") }
        return letter == UInt8(ascii: "t")
    }

    static func double(_ line: ByteBuffer) throws(RESPError) -> Double {
        let text = String(buffer: line)
        switch text {
        case "inf", "+inf": return .infinity
        case "-inf": return -.infinity
        // Redis before 7.2 writes what the C library does, with a sign too.
        case "nan", "-nan": return .nan
        default: break
        }
        // `Double` alone would also take hexadecimal and names.
        let isPlain = text.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "+"), UInt8(ascii: "-"), UInt8(ascii: "."),
                UInt8(ascii: "e"), UInt8(ascii: "E"):
                true
            default: false
            }
        }
        guard isPlain, let number = Double(text) else {
            throw .protocolError("\(self.quoted(line)) is not a double")
        }
        return number
    }

    static func bigNumber(_ line: ByteBuffer) throws(RESPError) -> ByteBuffer {
        var digits = line.readableBytesView
        if digits.first == UInt8(ascii: "-") || digits.first == UInt8(ascii: "+") { digits = digits.dropFirst() }
        guard !digits.isEmpty, digits.allSatisfy({ $0 >= UInt8(ascii: "0") && $0 <= UInt8(ascii: "9") }) else {
            throw .protocolError("\(self.quoted(line)) is not a big number")
        }
        return line
    }

    private static func integer(_ line: ByteBuffer, allowsPlus: Bool) -> Int64? {
        line.withUnsafeReadableBytes { bytes -> Int64? in
            var index = 0
            var isNegative = false
            if let sign = bytes.first, sign == UInt8(ascii: "-") || (allowsPlus && sign == UInt8(ascii: "+")) {
                isNegative = sign == UInt8(ascii: "-")
                index = 1
            }
            guard index < bytes.count else { return nil }
            // Counted down, because there is one more negative number than positive ones.
            var number: Int64 = 0
            while index < bytes.count {
                let digit = Int64(bytes[index]) - Int64(UInt8(ascii: "0"))
                guard digit >= 0, digit <= 9 else { return nil }
                let (shifted, overflow) = number.multipliedReportingOverflow(by: 10)
                let (next, underflow) = shifted.subtractingReportingOverflow(digit)
                guard !overflow, !underflow else { return nil }
                number = next
                index += 1
            }
            if isNegative { return number }
            return number == .min ? nil : -number
        }
    }

    /// The beginning of what was wrong; a peer's bytes must not make an error of any length.
    private static func quoted(_ line: ByteBuffer) -> String {
        let bytes = line.readableBytesView
        return "\"" + String(decoding: bytes.prefix(32), as: UTF8.self) + (bytes.count > 32 ? "…\"" : "\"")
    }
}
