/// A promise that was not kept.
public struct Violation: Codable, Equatable, Sendable, CustomStringConvertible {
    /// Which promise; a run that is made smaller must break the same one.
    public let promise: Promise
    public let text: String
    /// Seconds since the start.
    public let at: Double

    public enum Promise: String, Codable, Sendable, CaseIterable {
        /// Each event once.
        case once
        /// In the order of the topic.
        case order
        /// What is missing is told.
        case told
        /// What is told to be missing is.
        case truth
        /// A client with a way open gets there, and has everything.
        case alive
        /// Queues and outboxes stay within their limits.
        case bounded
        /// At most one transport carries a session, and at most two lines are open.
        case single
        /// At most two useless WebSockets in fifteen minutes while something else works.
        case budget
        /// A message of a client gets one answer, and its service is asked once.
        case answered
    }

    public var description: String { "\(self.promise.rawValue): \(self.text)" }
}
