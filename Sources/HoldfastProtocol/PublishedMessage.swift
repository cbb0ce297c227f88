import NIOCore

/// A message as a backend publishes it, over Redis or the server API (socketshark.md §8):
/// `{"subscription": "books.book_1", "data": …, "options": …, "published_at": …, filter fields}`.
public struct PublishedMessage: Sendable {
    /// Why a text is no message. The words are labels of the metrics.
    public enum Problem: String, Error, Sendable {
        case notJSON = "not_json"
        case noSubscription = "no_subscription"
        case noData = "no_data"
    }

    public let object: JSONObject
    public let subscription: String
    /// The payload's own bytes.
    public let data: JSONValue
    /// In SocketShark's form; `nil` if it is missing or cannot be read, which is no reason to lose the message.
    public let publishedAt: String?

    public init(parsing text: ByteBuffer, limits: JSONLimits = JSONLimits()) throws(Problem) {
        guard let object = try? JSONObject(parsing: text, limits: limits) else { throw .notJSON }
        try self.init(object)
    }

    public init(_ object: JSONObject) throws(Problem) {
        guard let subscription = object["subscription"]?.string else { throw .noSubscription }
        guard let data = object["data"] else { throw .noData }
        self.object = object
        self.subscription = subscription
        self.data = data
        self.publishedAt = object["published_at"]?.string.flatMap(Timestamp.reformatted)
    }

    /// - Parameter filterFields: of the message's service.
    public func conditions(filterFields: [String], limits: JSONLimits = JSONLimits()) -> DeliveryConditions? {
        DeliveryConditions(self.object, filterFields: filterFields, limits: limits)
    }
}
