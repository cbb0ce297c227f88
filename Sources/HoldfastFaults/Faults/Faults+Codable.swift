extension Faults: Codable {
    /// An unknown key is refused with the nearest that there is; a key that is left out means: no such fault.
    ///
    /// - Throws: ``FaultsError``.
    public init(from decoder: any Decoder) throws {
        self.init()
        try self.merge(from: decoder)
    }

    /// As ``init(from:)``, but what `decoder` does not name stays as it is.
    mutating func merge(from decoder: any Decoder) throws {
        guard let values = try? decoder.container(keyedBy: Name.self) else {
            throw FaultsError("faults are an object, such as {\"latency-ms\":300}")
        }
        for key in values.allKeys {
            let field = try FaultField.named(key.stringValue)
            try field.set(&self, to: Self.text(values, key))
        }
        try self.validate()
    }

    public func encode(to encoder: any Encoder) throws {
        var values = encoder.container(keyedBy: Name.self)
        for field in FaultField.all {
            let key = Name(stringValue: field.name)
            let text = field.text(self)
            switch field.kind {
            case .number: try values.encode(Int(text), forKey: key)
            case .isOn: try values.encode(text == "true", forKey: key)
            case .choice, .upgrade: try values.encode(text, forKey: key)
            }
        }
    }

    /// One way for all values: as they stand in a script.
    private static func text(_ values: KeyedDecodingContainer<Name>, _ key: Name) -> String {
        if let value = try? values.decode(Bool.self, forKey: key) { return String(value) }
        if let value = try? values.decode(Int.self, forKey: key) { return String(value) }
        if let value = try? values.decode(Double.self, forKey: key) { return String(value) }
        if let value = try? values.decode(String.self, forKey: key) { return value }
        return "null, a list or an object"
    }

    struct Name: CodingKey {
        let stringValue: String
        var intValue: Int? { nil }

        init(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }
    }
}
