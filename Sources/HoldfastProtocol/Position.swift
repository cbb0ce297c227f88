/// Where a topic's stream stands: the last publication that counts, in the life (epoch) of the stream it belongs to.
public struct Position: Sendable, Hashable, Codable {
    /// Names one life of the stream. Offsets of different epochs cannot be compared.
    public var epoch: String
    /// Offset of the newest publication; the first of an epoch is 1, so 0 means none yet.
    public var offset: UInt64

    public init(epoch: String, offset: UInt64) {
        self.epoch = epoch
        self.offset = offset
    }

    /// Reads `{"epoch":"k3f9","offset":41}`; `nil` if the value is anything else.
    public init?(_ value: JSONValue, limits: JSONLimits = JSONLimits()) {
        guard value.kind == .object, let object = try? JSONObject(parsing: value.raw, limits: limits),
            let epoch = object["epoch"]?.string, let offset = object["offset"]?.unsignedInteger
        else { return nil }
        self.init(epoch: epoch, offset: offset)
    }
}

extension Position: LosslessStringConvertible {
    /// `EPOCH:OFFSET`, such as `k3f9:41`.
    public init?(_ text: String) {
        guard let colon = text.lastIndex(of: ":"), colon != text.startIndex,
            let offset = UInt64(text[text.index(after: colon)...])
        else { return nil }
        self.init(epoch: String(text[..<colon]), offset: offset)
    }

    public var description: String { "\(self.epoch):\(self.offset)" }
}

extension JSONWriter {
    public mutating func member(_ name: String, _ position: Position) {
        self.member(
            name,
            object: { json in
                json.member("epoch", position.epoch)
                json.member("offset", position.offset)
            })
    }
}
