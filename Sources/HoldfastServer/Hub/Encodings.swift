import HoldfastProtocol

/// A publication as it goes over the wire: encoded once for all who get it in the same form.
struct Encodings {
    let publication: Publication
    /// For the plain dialect.
    private let sentAt: String?
    private var plain: EncodedEvent?
    private var native: EncodedEvent?
    /// What filters have kept from some sessions makes more than one form; most share one.
    private var others: [Publication.Place: EncodedEvent] = [:]

    init(_ publication: Publication, sentAt: String?) {
        self.publication = publication
        self.sentAt = sentAt
    }

    mutating func event(_ dialect: Dialect, _ place: Publication.Place = .own) -> EncodedEvent {
        if dialect == .plain {
            if let plain { return plain }
            let event = self.encode(.plain, place)
            self.plain = event
            return event
        }
        if case .own = place {
            if let native { return native }
            let event = self.encode(.native, place)
            self.native = event
            return event
        }
        if let event = self.others[place] { return event }
        let event = self.encode(.native, place)
        self.others[place] = event
        return event
    }

    /// For a subscription with extra fields, which is alone with them.
    func event(_ dialect: Dialect, _ place: Publication.Place, extras: [JSONObject.Member]) -> EncodedEvent {
        self.encode(dialect, place, extras: extras)
    }

    private func encode(
        _ dialect: Dialect,
        _ place: Publication.Place,
        extras: [JSONObject.Member] = []
    ) -> EncodedEvent {
        EncodedEvent(
            self.publication.event(dialect: dialect, sentAt: self.sentAt, extras: extras, place: place), isCounted: true
        )
    }
}
