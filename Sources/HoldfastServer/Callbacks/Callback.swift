/// What services are asked and told (socketshark.md §6.3), by their keys in the configuration.
public enum Callback: String, Sendable, Hashable, CaseIterable {
    case validation = "validation_url"
    case authorizer
    case authorizationChange = "on_authorization_change"
    case beforeSubscribe = "before_subscribe"
    case subscribed = "on_subscribe"
    case message = "on_message"
    case beforeUnsubscribe = "before_unsubscribe"
    case unsubscribed = "on_unsubscribe"
    case heartbeat = "on_heartbeat"

    /// All but the one that belongs to authentication.
    static let ofServices = Callback.allCases.filter { $0 != .validation }
}
