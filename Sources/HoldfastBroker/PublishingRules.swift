import HoldfastProtocol

/// What a broker that reads messages by itself has to know of the services they are for.
public struct PublishingRules: Sendable {
    public struct Service: Sendable {
        /// Members of a message that its recipients must have the same value of.
        public var filterFields: [String]
        public var history: HistorySettings

        public init(filterFields: [String], history: HistorySettings) {
            self.filterFields = filterFields
            self.history = history
        }
    }

    public var services: [String: Service]
    /// What applies to services that are not configured; `nil` where those are unknown.
    public var others: Service?
    /// Limits of a message's text.
    public var json: JSONLimits
    /// Largest message.
    public var messageBytes: Int

    public init(services: [String: Service], others: Service?, json: JSONLimits, messageBytes: Int) {
        self.services = services
        self.others = others
        self.json = json
        self.messageBytes = messageBytes
    }

    /// - Parameter subscription: `service.topic`
    public func service(of subscription: String) -> Service? {
        let scalars = subscription.unicodeScalars
        guard let dot = scalars.firstIndex(of: ".") else { return nil }
        return self.services[String(scalars[..<dot])] ?? self.others
    }
}
