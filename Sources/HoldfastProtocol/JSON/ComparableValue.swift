/// A JSON value made comparable the way SocketShark's filters compare (socketshark.md §9.1): `1`, `1.0` and `true` are equal,
/// `1` and `"1"` are not, objects and arrays compare deeply.
public enum ComparableValue: Sendable, Hashable {
    case null
    /// Booleans are 1 and 0 here, and every number without a fraction that fits.
    case integer(Int64)
    case number(Double)
    /// What is compared by its text: an integer that does not fit, and what is nested too deep.
    case text(String)
    /// By its bytes: Swift's strings are equal when they only look alike.
    case string([UInt8])
    indirect case array([ComparableValue])
    indirect case object([[UInt8]: ComparableValue])

    /// Nested deeper than this, values compare by their bytes: looking into each level reads it once more.
    static let depth = 16

    public init(_ value: JSONValue) {
        self.init(value, depth: Self.depth)
    }

    private init(_ value: JSONValue, depth: Int) {
        switch value.kind {
        case .null: self = .null
        case .boolean: self = .integer(value.boolean == true ? 1 : 0)
        case .number: self = Self.number(value.text)
        case .string: self = .string(value.string.map { Array($0.utf8) } ?? Array(value.raw.readableBytesView))
        case .array, .object: self = Self.nested(value, depth: depth) ?? .text(value.text)
        }
    }

    private static func nested(_ value: JSONValue, depth: Int) -> ComparableValue? {
        guard depth > 0 else { return nil }
        let limits = JSONLimits(members: .max)
        if value.kind == .array {
            guard let elements = try? value.elements(limit: .max, limits: limits) else { return nil }
            return .array(elements.map { ComparableValue($0, depth: depth - 1) })
        }
        guard let object = try? JSONObject(parsing: value.raw, limits: limits) else { return nil }
        var members: [[UInt8]: ComparableValue] = [:]
        for member in object.members {
            members[Array(member.name.utf8)] = ComparableValue(member.value, depth: depth - 1)
        }
        return .object(members)
    }

    private static func number(_ text: String) -> ComparableValue {
        if let integer = Int64(text) { return .integer(integer) }
        let isInteger = text.utf8.allSatisfy { "-0123456789".utf8.contains($0) }
        if isInteger { return .text(text) }
        guard let number = Double(text) else { return .text(text) }
        if let integer = Int64(exactly: number) { return .integer(integer) }
        if let integer = Int128(exactly: number) { return .text(String(integer)) }
        return .number(number)
    }
}
