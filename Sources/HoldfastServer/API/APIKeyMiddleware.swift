import HTTPTypes
import Hummingbird

/// Lets only those in who present the key. Without a configured key the API is closed, except for development on loopback.
struct APIKeyMiddleware<Context: RequestContext>: RouterMiddleware {
    let configuration: Configuration

    func handle(
        _ request: Request,
        context: Context,
        next: (Request, Context) async throws -> Response
    ) async throws -> Response {
        guard let key = self.configuration.api.key else {
            guard self.configuration.isDevelopment, self.configuration.isLoopback else {
                throw APIError(
                    .forbidden,
                    "The server API is closed: set api.key or HOLDFAST_API_KEY to open it.",
                    code: "api_closed"
                )
            }
            return try await next(request, context)
        }
        guard let header = request.headers[.authorization], header.hasPrefix("Bearer "),
            Self.isEqual(header.dropFirst("Bearer ".count).utf8, key.utf8)
        else {
            throw APIError(.unauthorized, "Present the key as Authorization: Bearer KEY.", code: "unauthorized")
        }
        return try await next(request, context)
    }

    /// Takes the same time wherever the two differ; only the length of the key can be told from it.
    private static func isEqual(_ left: Substring.UTF8View, _ right: String.UTF8View) -> Bool {
        guard left.count == right.count else { return false }
        return zip(left, right).reduce(UInt8(0)) { $0 | ($1.0 ^ $1.1) } == 0
    }
}
