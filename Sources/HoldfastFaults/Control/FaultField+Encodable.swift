extension FaultField: Encodable {
    private enum Key: String, CodingKey {
        case name, kind, help, none, unit, min, max, words
    }

    /// With the value that means: no such fault.
    public func encode(to encoder: any Encoder) throws {
        var fields = encoder.container(keyedBy: Key.self)
        try fields.encode(self.name, forKey: .name)
        try fields.encode(self.help, forKey: .help)
        let none = self.text(Faults())
        switch self.kind {
        case .number(let range, let unit):
            try fields.encode("number", forKey: .kind)
            try fields.encode(Int(none), forKey: .none)
            try fields.encode(unit, forKey: .unit)
            try fields.encode(range.lowerBound, forKey: .min)
            try fields.encode(range.upperBound, forKey: .max)
        case .choice(let words):
            try fields.encode("choice", forKey: .kind)
            try fields.encode(none, forKey: .none)
            try fields.encode(words, forKey: .words)
        case .upgrade(let words, let statuses):
            try fields.encode("upgrade", forKey: .kind)
            try fields.encode(none, forKey: .none)
            try fields.encode(words, forKey: .words)
            try fields.encode(statuses.lowerBound, forKey: .min)
            try fields.encode(statuses.upperBound, forKey: .max)
        case .isOn:
            try fields.encode("is-on", forKey: .kind)
            try fields.encode(none == "true", forKey: .none)
        }
    }
}
