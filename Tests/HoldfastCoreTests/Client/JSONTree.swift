import HoldfastProtocol
import NIOCore

/// JSON as the scenarios compare it: the order of members does not matter, numbers are equal when their values are.
enum JSONTree: Equatable {
    case object([String: JSONTree])
    case array([JSONTree])
    case string(String)
    /// As it stands in the text.
    case number(String)
    case boolean(Bool)
    case null

    static func == (left: JSONTree, right: JSONTree) -> Bool {
        switch (left, right) {
        case (.object(let left), .object(let right)): left == right
        case (.array(let left), .array(let right)): left == right
        case (.string(let left), .string(let right)): left == right
        case (.number(let left), .number(let right)): Double(left) == Double(right)
        case (.boolean(let left), .boolean(let right)): left == right
        case (.null, .null): true
        case (.object, _), (.array, _), (.string, _), (.number, _), (.boolean, _), (.null, _): false
        }
    }

    init(_ text: ByteBuffer) throws {
        self = try JSONTree(JSONValue(parsing: text))
    }

    init(_ value: JSONValue) throws {
        switch value.kind {
        case .object:
            let members = try JSONObject(parsing: value.raw).members
            self = .object(Dictionary(try members.map { ($0.name, try JSONTree($0.value)) }, uniquingKeysWith: { $1 }))
        case .array: self = .array(try (value.elements(limit: 10_000) ?? []).map(JSONTree.init))
        case .string: self = .string(value.string ?? "")
        case .number: self = .number(value.text)
        case .boolean: self = .boolean(value.boolean == true)
        case .null: self = .null
        }
    }

    subscript(_ member: String) -> JSONTree? {
        guard case .object(let members) = self else { return nil }
        return members[member]
    }

    var string: String? {
        guard case .string(let text) = self else { return nil }
        return text
    }

    var double: Double? {
        guard case .number(let text) = self else { return nil }
        return Double(text)
    }

    var int: Int? { self.double.map(Int.init) }

    var elements: [JSONTree] {
        guard case .array(let elements) = self else { return [] }
        return elements
    }

    var members: [String: JSONTree] {
        guard case .object(let members) = self else { return [:] }
        return members
    }

    /// Compact text, members in the order of their names.
    var text: String {
        switch self {
        case .object(let members):
            let inside = members.sorted { $0.key < $1.key }.map { "\(JSONTree.string($0.key).text):\($0.value.text)" }
            return "{\(inside.joined(separator: ","))}"
        case .array(let elements): return "[\(elements.map(\.text).joined(separator: ","))]"
        case .string(let text):
            var buffer = ByteBuffer()
            buffer.writeJSONString(text)
            return String(buffer: buffer)
        case .number(let text): return text
        case .boolean(let value): return value ? "true" : "false"
        case .null: return "null"
        }
    }

    /// `{"$repeat": "x", "times": 3}` stands for the string `"xxx"`.
    var expanded: JSONTree {
        switch self {
        case .object(let members):
            if let text = members["$repeat"]?.string, let times = members["times"]?.int {
                return .string(String(repeating: text, count: times))
            }
            return .object(members.mapValues(\.expanded))
        case .array(let elements): return .array(elements.map(\.expanded))
        case .string, .number, .boolean, .null: return self
        }
    }
}
