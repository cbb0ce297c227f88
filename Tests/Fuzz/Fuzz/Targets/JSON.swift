import Foundation
import NIOCore

@testable import HoldfastProtocol

extension FuzzTarget {
    static let json = FuzzTarget(
        name: "json",
        about: "the JSON reader: raw bytes preserved, Foundation takes the same, limits, errors, written again",
        maxBytes: 2048
    ) { bytes in
        let text = ByteBuffer(bytes: bytes)
        let value = Self.outcome { () throws(JSONError) in try JSONValue(parsing: text) }
        let object = Self.outcome { () throws(JSONError) in try JSONObject(parsing: text) }
        for case .failure(let error) in [value.map { _ in }, object.map { _ in }] { Self.check(error, bytes.count) }
        if case .success(let value) = value {
            Self.check(value, of: bytes)
            Self.checkDepth(text, depth: Self.depth(of: value.raw.array))
        }
        if case .success(let object) = object { Self.check(object, of: value) }
        if let isAccepted = Self.isAccepted(value) { FoundationJSON.compare(bytes, try? value.get(), isAccepted) }
    }

    private static func outcome<Value>(_ read: () throws(JSONError) -> Value) -> Result<Value, JSONError> {
        do throws(JSONError) { return .success(try read()) } catch { return .failure(error) }
    }

    /// - Returns: `nil` where a limit of ours decided.
    private static func isAccepted(_ value: Result<JSONValue, JSONError>) -> Bool? {
        guard case .failure(let error) = value else { return true }
        if case .tooDeep = error.reason { return nil }
        return false
    }

    private static func check(_ error: JSONError, _ count: Int) {
        require((0...count).contains(error.offset), "an error at \(error.offset) of \(count) bytes")
        require(!error.description.isEmpty, "an error without words")
    }

    private static func check(_ value: JSONValue, of bytes: [UInt8]) {
        let blanks: Set<UInt8> = [0x20, 0x0A, 0x0D, 0x09]
        let trimmed = Array(bytes.drop(while: blanks.contains).reversed().drop(while: blanks.contains).reversed())
        requireSame(value.raw.array, trimmed, "the raw value and the text without white space around it")
        require(String(validating: trimmed, as: UTF8.self) != nil, "a value that is not UTF-8")
        requireSame(try? JSONValue(parsing: value.raw), value, "the raw value, read again")
        requireSame(value.copied(), value, "a copy")
        _ = (value.isFalsy, value.unsignedInteger, value.double, value.boolean, ComparableValue(value).hashValue)
        if let text = value.string {
            let again = try? JSONValue(parsing: JSONValue(text).raw)
            requireSame(again?.string.map { Array($0.utf8) }, Array(text.utf8), "a string, written again")
        }
        guard value.kind == .array else { return }
        guard let elements = try? value.elements(limit: .max) else { fatalError("an array that cannot be read") }
        var again = JSONWriter()
        again.array { json in for element in elements { json.element(raw: element.raw) } }
        let written = try? JSONValue(parsing: again.buffer).elements(limit: elements.count)
        requireSame(written, elements, "an array, written again")
        if !elements.isEmpty {
            require((try? value.elements(limit: elements.count - 1)) == nil, "one element too many")
        }
    }

    private static func check(_ object: JSONObject, of value: Result<JSONValue, JSONError>) {
        guard case .success(let whole) = value else { fatalError("an object that is no value") }
        require(whole.kind == .object, "an object that is another kind of value")
        for member in object.members {
            requireSame(try? JSONValue(parsing: member.value.raw), member.value, "a member")
        }
        let written = JSONWriter.object { json in
            for member in object.members { json.member(member.name, member.value) }
        }
        requireSame((try? JSONObject(parsing: written))?.members, object.members, "an object, written again")
        // Those whose names have no text are counted by the reader and then left out.
        let limits = JSONLimits(members: max(0, object.members.count - 1))
        guard !object.members.isEmpty else { return }
        require((try? JSONObject(parsing: whole.raw, limits: limits)) == nil, "one member too many")
    }

    /// Deepest nesting, counted without the reader.
    private static func depth(of bytes: [UInt8]) -> Int {
        var (depth, deepest, isString, isEscape) = (0, 0, false, false)
        for byte in bytes {
            switch byte {
            case _ where isEscape: isEscape = false
            case UInt8(ascii: "\\") where isString: isEscape = true
            case UInt8(ascii: "\""): isString.toggle()
            case UInt8(ascii: "["), UInt8(ascii: "{"):
                if !isString { depth += 1 }
            case UInt8(ascii: "]"), UInt8(ascii: "}"):
                if !isString { depth -= 1 }
            default: break
            }
            deepest = max(deepest, depth)
        }
        return deepest
    }

    private static func checkDepth(_ text: ByteBuffer, depth: Int) {
        guard depth > 0 else { return }
        let isTaken = (try? JSONValue(parsing: text, limits: JSONLimits(depth: depth))) != nil
        require(isTaken, "refused at its own depth of \(depth)")
        let refusal = Self.outcome { () throws(JSONError) in
            try JSONValue(parsing: text, limits: JSONLimits(depth: depth - 1))
        }
        guard case .failure(let error) = refusal, error.reason == .tooDeep(limit: depth - 1) else {
            fatalError("nested \(depth) deep, taken with a limit of \(depth - 1)")
        }
    }
}

/// What Foundation says to the same text.
private enum FoundationJSON {
    /// Left out is what Foundation is known to see otherwise: it guesses UTF-16 and UTF-32 from zero bytes, takes a byte order mark,
    /// does not check UTF-8, has no lone surrogates, refuses numbers that fit no type of its own, and what is nested deeper
    /// than 512, and takes a comma behind the last element.
    static func compare(_ bytes: [UInt8], _ value: JSONValue?, _ isAccepted: Bool) {
        guard let first = bytes.first, first < 0x80, !bytes.contains(0),
            let text = String(validating: bytes, as: UTF8.self), !text.lowercased().contains("\\ud"),
            !Self.hasBigNumber(bytes), !Self.hasTrailingComma(bytes)
        else { return }
        let theirs = try? JSONSerialization.jsonObject(with: Data(bytes), options: .fragmentsAllowed)
        requireSame(isAccepted, theirs != nil, "whether this is JSON, and whether Foundation takes it")
        guard let value, let theirs else { return }
        if let text = value.string {
            requireSame(Array(text.utf8), (theirs as? String).map { Array($0.utf8) }, "a string and Foundation's")
        }
        if let number = value.double {
            // Foundation does not round to the nearest.
            let other = (theirs as? NSNumber)?.doubleValue ?? .nan
            require(abs(number - other) <= abs(number) * 1e-12, "\(number), and Foundation's \(other)")
        }
    }

    private static func hasTrailingComma(_ bytes: [UInt8]) -> Bool {
        let dense = bytes.filter { ![0x20, 0x09, 0x0A, 0x0D].contains($0) }
        return zip(dense, dense.dropFirst()).contains { $0 == 0x2C && ($1 == 0x5D || $1 == 0x7D) }
    }

    /// 16 digits, or an exponent of more than two.
    private static func hasBigNumber(_ bytes: [UInt8]) -> Bool {
        var digits = 0
        var isExponent = false
        for byte in bytes {
            if (0x30...0x39).contains(byte) {
                digits += 1
                if digits > (isExponent ? 2 : 15) { return true }
            } else if byte != UInt8(ascii: ".") {
                digits = 0
                isExponent = byte | 0x20 == 0x65 || isExponent && (byte == 0x2B || byte == 0x2D)
            }
        }
        return false
    }
}
