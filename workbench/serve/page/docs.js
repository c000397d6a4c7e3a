// This Swagger UI draws OpenAPI up to 3.0 and refuses 3.1 for its number alone: what the server describes is the same in both.
fetch(location.origin + "/openapi.json")
  .then((answer) => answer.json())
  .then((spec) =>
    SwaggerUIBundle({ dom_id: "#swagger", spec: { ...spec, openapi: "3.0.3" }, validatorUrl: null, docExpansion: "list" }));
