/// A name that equals another only byte for byte.
///
/// Swift's strings are equal when they look alike: `é` as one code point and as two. To backends, authorizers and Redis those
/// are two names, so they must be two here.
public struct ExactName: Sendable, Hashable {
    public let text: String

    public init(_ text: String) {
        self.text = text
    }

    public static func == (left: ExactName, right: ExactName) -> Bool {
        left.text.utf8.elementsEqual(right.text.utf8)
    }

    public func hash(into hasher: inout Hasher) {
        var text = self.text
        text.withUTF8 { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
    }
}

/// Values by name, byte for byte.
public struct NameTable<Value> {
    private var entries: [ExactName: Value] = [:]

    public init() {}

    public subscript(_ name: String) -> Value? {
        get { self.entries[ExactName(name)] }
        _modify { yield &self.entries[ExactName(name)] }
    }

    public var count: Int { self.entries.count }
    public var isEmpty: Bool { self.entries.isEmpty }
    public var names: [String] { self.entries.keys.map(\.text) }
    public var values: some Collection<Value> { self.entries.values }

    @discardableResult
    public mutating func removeValue(of name: String) -> Value? {
        self.entries.removeValue(forKey: ExactName(name))
    }

    /// Adds what the other has and this one has not.
    public mutating func merge(_ other: NameTable) {
        self.entries.merge(other.entries) { first, _ in first }
    }
}

extension NameTable: Sendable where Value: Sendable {}
