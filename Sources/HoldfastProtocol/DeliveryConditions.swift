/// Who gets a publication and when, where the publisher said so (socketshark.md §9).
public struct DeliveryConditions: Sendable, Equatable {
    /// Names and values that a session must have, out of the service's filter fields.
    public var fields: [Field] = []
    /// The publication is delivered only if this is greater than what was delivered before under the same key.
    public var order: Double?
    /// `nil` is a key, too.
    public var orderKey: ComparableValue?
    /// Seconds in which one session gets at most one publication under the same key; the last one always arrives.
    public var throttle: Double?
    public var throttleKey: ComparableValue?

    public struct Field: Sendable, Equatable {
        public let name: String
        public let value: ComparableValue

        public init(name: String, value: ComparableValue) {
            self.name = name
            self.value = value
        }
    }

    public init() {}

    /// Reads `options` and the filter fields of a published object, or of a service's answer.
    /// - Returns: `nil` if there are none, so that everybody gets the publication.
    public init?(_ object: JSONObject, filterFields: [String], limits: JSONLimits = JSONLimits()) {
        for name in filterFields {
            guard let value = object[name] else { continue }
            self.fields.append(Field(name: name, value: ComparableValue(value)))
        }
        if let value = object["options"], value.kind == .object,
            let options = try? JSONObject(parsing: value.raw, limits: limits)
        {
            self.order = options["order"].flatMap(Self.number)
            self.orderKey = options["order_key"].flatMap(Self.key)
            self.throttle = options["throttle"].flatMap(Self.number)
            self.throttleKey = options["throttle_key"].flatMap(Self.key)
        }
        if self.fields.isEmpty, self.order == nil, self.throttle == nil { return nil }
    }

    /// A number, a boolean or a numeric string; anything else, and what is beyond a double, is as if it were not there.
    private static func number(_ value: JSONValue) -> Double? {
        let number: Double?
        switch value.kind {
        case .number: number = value.double
        case .boolean: number = value.boolean == true ? 1 : 0
        case .string: number = value.string.flatMap(Double.init(decimal:))
        case .null, .array, .object: number = nil
        }
        return number.flatMap { $0.isFinite ? $0 : nil }
    }

    private static func key(_ value: JSONValue) -> ComparableValue? {
        switch value.kind {
        case .string, .number, .boolean: ComparableValue(value)
        case .null, .array, .object: nil
        }
    }
}
